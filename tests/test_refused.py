"""Any one system call refused: the next way is taken, or it is said; never another answer."""

import errno
import functools
import os
import sys

import numpy as np
import pytest

import backed
import calls
import fastpagemap as fpm
import fastpagemap.processes  # little can be imported where calls are refused
import fastpagemap.snapshot.snapshot
import fastpagemap.tracking
import linux
import memory
import runas
import seccomp
from fastpagemap import Category, State
from linux import PAGE

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("any_swap")]

TRIES = 10  #: for memory to hold still
PAGES = 700  # more than a small mapping, so that scans are made
ERRORS = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EINVAL)
MASKS = ("present", "swapped", "unknown", "shared", "exclusive")
SCANNED = State.HUGE | State.ZERO | State.GUARD
MAKERS = (
    memory.sparse,
    backed.shared_anonymous,
    backed.memfd,
    backed.posix,
    backed.memfd_private,
    backed.file_shared,
)


@pytest.fixture(scope="module")
def spans():
    """Memory of each kind, partly in swap, as mappings of this process."""
    made = [make(PAGES) for make in MAKERS]
    for each in made:
        each.write(0, PAGES, 3)
        each.advise(linux.MADV_PAGEOUT, 30, 300)
    starts = {each.start for each in made}
    with fpm.PageMap() as pm:
        yield [mapping for mapping in pm.mappings() if mapping.start in starts]
    for each in made:
        each.close()


def answers(pid, spans, pm=None):
    """Every public answer about some memory of another process, or the exception it gave."""
    pm = tried(lambda: fpm.PageMap(pid)) if pm is None else pm
    if isinstance(pm, OSError):
        return {"PageMap": pm}
    said = {
        "usage": tried(lambda: columns(pm.usage(spans))),
        "fields": tried(lambda: columns(pm.usage(spans, fields=["present", "swapped"]))),
        "usage_of": tried(lambda: fpm.usage_of(pid, fields=["present", "swapped"]).dtype.names),
        "states": tried(lambda: by_page(spans, pm.states(spans))),
        "snapshot": tried(lambda: by_page(spans, pm.snapshot().states)),
        "regions": tried(lambda: regions(pm, spans)),
        "mappings": tried(lambda: [m for m in pm.mappings() if m in spans]),
        "uid": tried(lambda: pm.uid),
        "residency": tried(
            lambda: columns(
                pm.residency([m.start for m in spans], [m.end - m.start for m in spans])
            )
        ),
        "capabilities": tried(lambda: fpm.capabilities(pid)),
        "tracker": tried(tracked),
    }
    for i, m in enumerate(spans):
        masks, pages = tried(pm.masks, *m[:2]), tried(pm.read, *m[:2])
        for name in MASKS:
            said[name, i] = tried(getattr(pm, name), *m[:2])
            said[f"read.{name}", i] = of(pages, name)
            if hasattr(fpm.Masks, name):
                said[f"masks.{name}", i] = of(masks, name)
    return said


def tried(ask, *arguments):
    try:
        return ask(*arguments)
    except OSError as error:
        return error


def of(answer, name):
    """An attribute of an answer, which may be an exception."""
    return answer if isinstance(answer, OSError) else tried(lambda: getattr(answer, name))


def columns(rows):
    return {name: rows[name].tolist() for name in rows.dtype.names}


def by_page(spans, runs):
    """The state of each page of some mappings."""
    found = []
    for start, end, *_ in spans:
        states = np.zeros((end - start) // PAGE, np.uint64)
        for low, high, state in runs.tolist():
            low, high = max(low, start), min(high, end)
            if low < high:
                states[(low - start) // PAGE : (high - start) // PAGE] = state
        found.append(states)
    return np.concatenate(found)


def regions(pm, spans):
    """The regions of those categories that entries tell as well."""
    asked = Category.PRESENT | Category.SWAPPED | Category.FILE
    return [pm.regions(m.start, m.end, anyof=asked, returns=asked).tolist() for m in spans]


def tracked():
    """The pages of memory of this process that were written."""
    with memory.touched(600) as made, fpm.WriteTracker(made.start, made.end) as tracker:
        made.write(100, 500, 7)
        return tracker.written()


# What is said next to what is so.


def check(said, true, exact, lost):
    """Nothing is said that is not so; what is not said is unknown, or an exception says why.

    Only the answers `lost` may be exceptions; None for all. Without cachestat (not `exact`), a
    swapped page with a copy in RAM counts as not swapped.
    """
    for name, answer in said.items():
        if isinstance(answer, OSError):
            assert says_why(answer), f"{name}: {answer!r}"
            assert lost is None or name in lost, f"{name}: {answer!r}"
            continue
        kind = name[0].rpartition(".")[2] if isinstance(name, tuple) else name
        if kind in CHECKS:
            CHECKS[kind](said, true, name, exact)
        elif isinstance(true[name], np.ndarray):
            np.testing.assert_array_equal(answer, true[name], err_msg=str(name))
        else:
            assert answer == true[name], name


def says_why(error):
    """Whether an exception tells more than that something is not permitted."""
    if isinstance(error, fpm.UnsupportedError):
        return len(error.strerror) > 20
    refused = error.errno in (*ERRORS, errno.ENOTTY)
    return refused and (error.filename is not None or len(str(error)) > 60)


def check_swapped(said, true, name, exact):
    swapped, whole = said[name], true[name]
    unknown = said[name[0].replace("swapped", "unknown"), name[1]]
    assert not (swapped & ~whole).any(), name
    if exact and not isinstance(unknown, OSError):
        assert not (whole & ~swapped & ~unknown).any(), name


def check_unknown(said, true, name, exact):
    present = true["present", name[1]]
    assert not (said[name] & present).any(), name


def check_usage(said, true, name, exact):
    own, whole = said[name], true[name]
    assert own.keys() <= whole.keys()
    for column in own.keys() - {"swapped", "swapped_shared", "unknown"}:
        assert own[column] == whole[column], (name, column)
    if "swapped" in own:
        rest = own.get("unknown", [sys.maxsize] * len(own["swapped"]))
        for found, unknown, all_swapped in zip(own["swapped"], rest, whole["swapped"], strict=True):
            assert found <= all_swapped, name
            assert not exact or all_swapped <= found + unknown, name


def check_states(said, true, name, exact):
    swap = State.SWAPPED | State.SWAPPED_SHARED
    own, whole = said[name], true[name]
    mask = ~np.uint64(swap | State.UNKNOWN | SCANNED)
    np.testing.assert_array_equal(own & mask, whole & mask)
    assert not ((own & np.uint64(swap | SCANNED)) & ~whole).any()
    if not exact:
        return
    missing = (whole & np.uint64(State.SWAPPED)) > (own & np.uint64(State.SWAPPED))
    assert not (missing & ((own & np.uint64(State.UNKNOWN)) == 0)).any()


def check_tracker(said, true, name, exact):
    """Also told: pages that the kernel was just moving when they were protected."""
    written = np.arange(600) % 7 == 2
    written[:100] = written[500:] = False
    for answer in (said[name], true[name]):
        assert (answer & written).sum() == written.sum()
        assert (answer & ~written).sum() < 60


def check_capabilities(said, true, name, exact):
    own, whole = said[name], true[name]
    assert own.categories & ~whole.categories == 0
    for field in ("scan", "procmap_query", "cachestat", "pfn", "soft_dirty"):
        assert getattr(own, field) <= getattr(whole, field), field


CHECKS = {
    "swapped": check_swapped,
    "unknown": check_unknown,
    "usage": check_usage,
    "fields": check_usage,
    "residency": check_usage,
    "states": check_states,
    "snapshot": check_states,
    "capabilities": check_capabilities,
    "tracker": check_tracker,
}


# Who asks: a child that may not make one call.


def asking(spans, parent, refuse, warm):
    """Ask in this process, after it has forbidden itself a call; `warm`: and has asked before."""
    pm = None
    if warm:
        pm = fpm.PageMap(parent)
        answers(parent, spans, pm)
        tracked()
    else:
        seccomp.forget()
    refuse()
    return answers(parent, spans, pm)


#: Without these nothing can be read of a process, or Python cannot list a directory.
BARE_NEED = {"openat", "pread64"}
#: Without these there is no write tracking.
OF_TRACKING = {"ioctl", "userfaultfd", "PAGEMAP_SCAN", "UFFDIO_API", "UFFDIO_REGISTER"}


def refused(spans, name, refuse, warm):
    parent = os.getpid()
    lost = None if name in BARE_NEED else {"tracker"} if name in OF_TRACKING else set()
    for left in reversed(range(TRIES)):
        true = runas.in_child(answers, parent, spans)
        said = runas.in_child(asking, spans, parent, refuse, warm)
        try:
            check(true, true, True, set())
            check(said, true, name != "cachestat", lost)
            return
        except AssertionError:
            # The kernel may have swapped pages in or out meanwhile.
            if not left or runas.in_child(answers, parent, spans)["usage"] == true["usage"]:
                raise


@pytest.mark.parametrize("warm", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", calls.NAMES)
def test_one_call_is_refused(spans, name, error, warm):
    """Before the library looks, or after it has found that the call works."""
    refused(spans, name, functools.partial(seccomp.refuse, calls.number(name), error), warm)


@pytest.mark.parametrize("warm", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", [*ERRORS, errno.ENOTTY], ids=errno.errorcode.get)
@pytest.mark.parametrize("name", calls.REQUESTS)
def test_one_request_is_refused(spans, name, error, warm):
    ioctl, request = calls.number("ioctl"), calls.REQUESTS[name]
    refused(spans, name, functools.partial(seccomp.refuse, ioctl, error, request), warm)
