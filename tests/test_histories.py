"""Random histories of shared memory in two processes, and questions while the memory is in motion.

After each history the processes hold still, and every page is compared with the slow twin, every
mapping with smaps.
"""

import contextlib
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import backed
import fastpagemap as fpm
import linux
import memory
import oracle
import oracle_files
import runas
import sharing
import steps
from compare import ask, check, honest, while_still
from features import has_cachestat
from linux import PAGE
from needs import Absent, need
from sharer import Sharer

pytestmark = pytest.mark.root

PAGES = 40
REACH = PAGES + 16  # pages of the file that a mapping may show


# What happens to the file: whoever maps it is concerned.


def punch(made, first, last):
    sharing.punch(made.fd, first, last)


def allocate(made, first, last):
    sharing.allocate(made.fd, first, last)


def truncate(made, first, last):
    """Cut it off at a page, at times in its middle."""
    os.ftruncate(made.fd, first * PAGE + last % 2 * PAGE // 2)


def extend(made, first, last):
    os.ftruncate(made.fd, REACH * PAGE)


def store(made, first, last):
    """Write to it, and not through a mapping."""
    os.pwrite(made.fd, b"s" * (last - first) * PAGE, first * PAGE)


def unlink(made, first, last):
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.readlink(f"/proc/self/fd/{made.fd}"))


# What happens to one process's view of it.


def hide(made, first, last):
    sharing.hide(made)


def remap(flags, protection, made, first, last):
    """Show a part of it elsewhere, with other rights, at another offset."""
    made.map(flags, protection, made.fd, (first * 7 + last) % 16, first, last)


def page_out(made, first, last):
    """Send to swap what can go; a page may wait in the list of whatever processor added it."""
    processors = os.sched_getaffinity(0)
    for processor in processors:
        os.sched_setaffinity(0, {processor})
        with contextlib.suppress(OSError):  # a hole: what is beside it was advised all the same
            made.advise(linux.MADV_PAGEOUT, first, last)
    os.sched_setaffinity(0, processors)


FILE = {f.__name__: f for f in (punch, allocate, truncate, extend, store, unlink)}
VIEW = {name: steps.STEPS[name] for name in ("write", "write some", "read", "drop", "unmap")}
VIEW |= {name: steps.STEPS[name] for name in ("write-protect", "allow", "new private")}
VIEW |= {
    "page out": page_out,
    "show": lambda *a: remap(backed.FILE_SHARED, memory.READ_WRITE, *a),
    "show privately": lambda *a: remap(backed.FILE_PRIVATE, memory.READ_WRITE, *a),
    "show for reading": lambda *a: remap(backed.FILE_PRIVATE, memory.READ, *a),
}
OFTEN = ["page out", "page out", "show", "show privately", "drop"]

pairs = st.tuples(st.integers(0, PAGES), st.integers(0, PAGES)).map(sorted)
deeds = st.sampled_from([*FILE, *VIEW, *OFTEN, "fork", "hide"])
layouts = st.lists(st.sampled_from(["S", "C", ".", "F", "SSSSSS", "S.", "CCCC"]), max_size=30)
histories = st.lists(st.tuples(st.booleans(), deeds, pairs), max_size=20)


def carry_out(made, name, first, last):
    """Do it, as far as it can be done to these pages now."""
    with contextlib.suppress(OSError):
        if first < last:
            (FILE | VIEW | {"hide": hide})[name](made, first, last)


def shared_file(name):
    """A mapped file of shared memory: a memfd, or one with a path, open to all or not."""
    if name == "memfd":
        return backed.memfd(PAGES)
    made = backed.posix(PAGES)
    os.fchmod(made.fd, 0o666 if name == "open" else 0o600)
    return made


def live(made, other, history):
    """Have a history happen, to this process or to the other; return the pids of all there are."""
    pids = [os.getpid(), other.pid]
    for here, name, (first, last) in history:
        if name == "fork":
            pids += [other.ask("fork")] if len(pids) < 4 else []
        elif here or name in FILE:
            # one descriptor has to stay, or no file is left to do things to
            carry_out(made, name if name != "hide" else "read", first, last)
        else:
            other.ask("do", name, first, last)
    return pids


@pytest.mark.parametrize("uid", [None, runas.NOBODY])
@pytest.mark.usefixtures("swap_area")
def test_histories(uid):
    need(has_cachestat(), "cachestat (Linux 6.5)", Absent)
    margin = 3 * PAGE

    @settings(max_examples=50, deadline=None)
    @given(st.sampled_from(["memfd", "open", "own"]), layouts, histories)
    def live_and_check(kind, layout, history):
        with shared_file(kind) as made:
            os.ftruncate(made.fd, REACH * PAGE)
            sharing.paint(made, "".join(layout)[:PAGES].ljust(PAGES, "."))
            span = made.start - margin, made.end + margin
            functions = {
                "do": lambda *deed: carry_out(made, *deed),
                "ask": lambda: ask_self(*span),
            }
            with Sharer(functions, uid) as other:
                for pid in live(made, other, history):
                    with fpm.PageMap(pid) as pm:
                        check(pm, *span)
                check_as_itself(other, span)

    live_and_check()


def ask_self(start, end):
    with fpm.PageMap() as pm:
        return ask(pm, start, end)


def check_as_itself(other, span):
    """What the other process, with what rights it has, says of itself."""

    def real():
        # Who sees no swap types takes a page that the kernel moves for a swapped one. The entry of
        # such a page has another frame then.
        return oracle_files.swapped(*span, other.pid), oracle.words(*span, other.pid)

    (answers, _), said = while_still(lambda: other.ask("ask"), real)
    honest(said, answers)
