"""Every public call on a process that does nothing, and what it may answer where calls fail."""

import contextlib
import io
import os
import shutil
import tempfile

import _calls_physical
import numpy as np

import fastpagemap as fpm
import linux
import memory
from compare import by_page
from fastpagemap import State, cli
from linux import PAGE
from needs import Missing
from victim import Victim

#: What a refused scan cannot tell, and what names the same page in two ways.
_SCANNED = int(State.HUGE | State.ZERO)
_SWAP = int(State.SWAPPED | State.SWAPPED_SHARED)
_UNKNOWN = int(State.UNKNOWN)
KINDS = ("touched", "sparse", "memfd", "shared_anonymous", "memfd_private", "tmpfs", "file_shared")


class Target:
    """A victim with memory of several kinds, half of each in swap."""

    def __init__(self, stack, pages=64):
        self.victim = stack.enter_context(Victim())
        self.spans = []
        for kind in KINDS:
            with contextlib.suppress(Missing):
                span = self.victim.make(kind, pages)
                span.do("advise", linux.MADV_PAGEOUT, 0, pages // 2)
                self.spans.append((span.start, span.end))
        self.pid = self.victim.pid
        self.held = fpm.PageMap(self.pid)
        self.own = stack.enter_context(memory.touched(pages))
        self.directory = tempfile.mkdtemp(prefix="fastpagemap-")
        stack.callback(shutil.rmtree, self.directory)
        self.path = os.path.join(self.directory, "kept.fpm")
        self.saved = os.path.join(self.directory, "saved.fpm")
        self.held.snapshot().save(self.path)


def _of_each(method):
    """A mask of every span, and which pages are unknown under the same conditions."""

    def call(target):
        masks = [getattr(target.held, method)(*span) for span in target.spans]
        return {"mask": masks}

    return call


def _swapped(target):
    return {"swapped": [target.held.swapped(*span) for span in target.spans]}


def _masks(target):
    found = [target.held.masks(*span) for span in target.spans]
    return {
        "states": [_states_of(each.swapped, each.unknown) for each in found],
        "shared": [each.shared for each in found],
    }


def _read(target):
    found = [target.held.read(*span) for span in target.spans]
    return {
        "states": [_states_of(each.swapped, each.unknown) for each in found],
        "entries": [each.entries["value"] for each in found],
    }


def _states_of(swapped, unknown):
    return swapped * np.uint64(_SWAP) | unknown * np.uint64(_UNKNOWN)


def complete(target, told):
    """An answer with the states of pages in place of runs: work that is not the library's."""
    told = dict(told)
    if "runs" in told:
        runs = told.pop("runs")
        told["states"] = [np.array(by_page(runs, *span), np.uint64) for span in target.spans]
    return told


def _states(target):
    return {"runs": target.held.states()}


def _snapshot(target):
    kept = target.held.snapshot()
    return {
        "runs": kept.states,
        "rest": (kept.name, kept.command, kept.mappings),
    }


def _load(target):
    kept = fpm.Snapshot.load(target.path)
    return {"runs": kept.states, "rest": (kept.name, kept.mappings)}


def _save(target):
    fpm.Snapshot.load(target.path).save(target.saved)
    left = sorted(os.listdir(target.directory))
    assert left == ["kept.fpm", "saved.fpm"], f"what save() left behind: {left}"
    return {"rest": os.path.getsize(target.saved) > 0}


def _usage(target):
    table = target.held.usage()
    return {"usage": table[np.isin(table["start"], [start for start, _ in target.spans])]}


def _residency(target):
    (one, _), (two, _), *_ = target.spans
    return {"residency": target.held.residency([one + 5, two, 0], [99 * PAGE, 64 * PAGE, 9])}


def _regions(target):
    present = fpm.Category.PRESENT
    found = [target.held.regions(*s, mask=present, returns=present) for s in target.spans]
    return {"mask": found}


def _tracker(target):
    own = target.own
    with fpm.WriteTracker(own.start, own.end) as tracker:
        own.write(3, 9)
        first = tracker.written()
        own.write(20, 30, 2)
        return {"mask": [first, tracker.written()]}


def _accesses(target):
    own = target.own
    with fpm.AccessTracker(own.start, own.end) as tracker:
        own.read(3, 9)
        first = tracker.accessed()
        own.read(20, 30, 2)
        return {"mask": [first, tracker.accessed()]}


def _command_line(*arguments):
    def call(target):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main([each.format(pid=target.pid) for each in arguments])
        said = err.getvalue()
        assert code in (0, 1), f"exit status {code}"
        assert "Traceback" not in said, said
        if code:
            assert said.count("\n") == 1, said
            raise OSError(said)
        return {"rest": bool(out.getvalue())}

    return call


CALLS = {
    "PageMap": lambda t: {"rest": fpm.PageMap(t.pid).pid},
    "PageMap of itself": lambda _: {"rest": fpm.PageMap().pid},
    "mappings": lambda t: {"rest": t.held.mappings()},
    "read": _read,
    "masks": _masks,
    "present": _of_each("present"),
    "shared": _of_each("shared"),
    "exclusive": _of_each("exclusive"),
    "swapped": _swapped,
    "regions": _regions,
    "usage": _usage,
    "states": _states,
    "snapshot": _snapshot,
    "residency": _residency,
    "capabilities": lambda t: {"capabilities": fpm.capabilities(t.pid)},
    "WriteTracker": _tracker,
    "load": _load,
    "save": _save,
    "report": _command_line("report", "{pid}"),
    "report as JSON": _command_line("report", "--json", "{pid}"),
    **_calls_physical.CALLS,
}
if fpm.capabilities().userfaultfd_rwp_async:
    CALLS["AccessTracker"] = _accesses


def same(one, other):
    """Whether two answers are the same in every detail."""
    return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)


def _equal(one, other):
    if isinstance(one, list) and one and isinstance(one[0], np.ndarray):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.tolist() == other.tolist()
    return one == other


def honest(told, real, for_good, copies=False):
    """Whether an answer says less than the real one, and nothing else: `unknown`, or not there.

    `for_good`: the call fails for ever, so that what needs it may be a capability that is absent.
    `copies`: swapped pages with a copy in RAM may be told as not swapped.
    """
    if copies:
        real = _with_swapped_of(told, real)
    for key, value in told.items():
        if _equal(value, real[key]):
            continue
        if key not in _HONEST or not _HONEST[key](value, real[key], for_good):
            return False
    return True


def _with_swapped_of(told, real):
    """The real answer, but that what is not swapped in the other one is not."""
    real = dict(real)
    if "states" in real:
        swap = np.uint64(_SWAP)
        pairs = zip(told["states"], real["states"], strict=True)
        real["states"] = [two & ~(swap & ~one) for one, two in pairs]
    for key in {"usage", "residency"} & real.keys():
        real[key] = real[key].copy()
        for name in {"swapped", "swapped_shared"} & set(real[key].dtype.names):
            real[key][name] = np.minimum(real[key][name], told[key][name])
    return real


def _honest_states(told, real, for_good):
    """Swapped pages may be unknown; without scans nothing is known to be huge or zero."""
    forgiven = _SCANNED if for_good else 0
    for one, other in zip(told, real, strict=True):
        unknown = (one & np.uint64(_UNKNOWN)) != 0
        hidden = np.uint64(~(forgiven | _SWAP | _UNKNOWN) & (1 << 64) - 1)
        if ((one ^ other) & hidden).any():
            return False
        swapped, really = (((each & np.uint64(State.SWAPPED)) != 0) for each in (one, other))
        if (swapped & ~really).any() or (really & ~swapped & ~unknown).any():
            return False
    return True


def _honest_usage(told, real, for_good):
    """What is not swapped any more is unknown; columns of a scan may be absent."""
    missing = set(real.dtype.names) - set(told.dtype.names)
    if missing - ({"huge", "zero", "soft_dirty"} if for_good else set()) or len(told) != len(real):
        return False
    for name in set(told.dtype.names) - {"swapped", "swapped_shared", "unknown"}:
        if (told[name] != real[name]).any():
            return False
    lost = real["swapped"].astype(np.int64) - told["swapped"].astype(np.int64)
    return bool((lost >= 0).all() and (lost <= told["unknown"].astype(np.int64)).all())


def _honest_residency(told, real, _for_good):
    """Only where there is a column that says how much is unknown."""
    if "unknown" not in (told.dtype.names or ()):
        return False
    lost = real["swapped"].astype(np.int64) - told["swapped"].astype(np.int64)
    return bool((lost >= 0).all() and (lost <= told["unknown"].astype(np.int64)).all())


def _honest_capabilities(told, real, for_good):
    """What fails for ever is absent; None says that it could not be found out."""
    for name in real.__dataclass_fields__:
        one, other = getattr(told, name), getattr(real, name)
        if one == other or one is None:
            continue
        if not for_good or (one and not (name == "categories" and one & ~other == 0)):
            return False
    return True


def _honest_swapped(told, real, for_good):
    """Unknown pages are not in the mask."""
    return all(not (one & ~other).any() for one, other in zip(told, real, strict=True))


_HONEST = {
    "states": _honest_states,
    "swapped": _honest_swapped,
    "usage": _honest_usage,
    "residency": _honest_residency,
    "capabilities": _honest_capabilities,
    "group": _calls_physical.honest_group,
}
