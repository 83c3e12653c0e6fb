"""Memory whose writes or accesses are tracked, and what is known of it otherwise."""

import contextlib
import ctypes
import mmap
import os

import numpy as np

import backed
import fastpagemap as fpm
import linux
import memory
from compare import TRIES
from linux import PAGE

PAGES = 300

KINDS = {
    "touched": memory.touched,
    "untouched": memory.untouched,
    "shared_anonymous": backed.shared_anonymous,
    "memfd": backed.memfd,
    "posix": backed.posix,
}


#: Debian's 6.18.15 leaves untouched memory as it is: the first use of it is told, with pages near.
ARMS_UNTOUCHED = not os.uname().release.startswith("6.18.15")


@contextlib.contextmanager
def tracked(make, pages=PAGES, kind=fpm.WriteTracker):
    """Memory of which nothing was used since it is tracked, and what tracks it."""
    with make(pages) as made:
        for left in reversed(range(TRIES)):
            with kind(made.start, made.end) as tracker:
                # what the kernel was moving when it was protected counts as used
                if not left or not any_used(made, kind):
                    yield made, tracker
                    return


def accessed(make, pages=PAGES):
    return tracked(make, pages, fpm.AccessTracker)


#: The categories of a page that was used, by the kind of tracker that tells it.
USED = {
    fpm.WriteTracker: fpm.Category.WPALLOWED | fpm.Category.WRITTEN,
    fpm.AccessTracker: fpm.Category.ACCESSED,
}


def any_used(made, kind):
    """Whether the kernel says of any page that it was used since it was protected."""
    with fpm.PageMap() as pm:
        return len(pm.regions(made.start, made.end, mask=int(USED[kind]))) > 0


def mask(tracker, **options):
    """The mask of either kind of tracker."""
    method = tracker.written if isinstance(tracker, fpm.WriteTracker) else tracker.accessed
    return method(**options)


def codes(ask, kind=fpm.WriteTracker):
    """The code of a tracker's answer, a mask or regions: its method, and what that rests on."""
    public = {fpm.WriteTracker: "written", fpm.AccessTracker: "accessed"}[kind]
    names = ("regions", "_regions") if ask == "regions" else (public, "_mask")
    return {getattr(kind, name).__code__ for name in (*names, "_answer", "_need_open")}


def numbers(mask):
    return np.flatnonzero(mask).tolist()


def array(made):
    """The bytes of a memory as a writable array."""
    return np.frombuffer((ctypes.c_char * (made.pages * PAGE)).from_address(made.start), np.uint8)


def protected(made):
    """Which pages are write-protected, by their entries; whether their mapping is watched."""
    with fpm.PageMap() as pm:
        return pm.read(made.start, made.end).uffd_wp.any()


def pages_of(found, made):
    """The pages of regions."""
    spans = [((start - made.start) // PAGE, (end - made.start) // PAGE) for start, end, _ in found]
    return [page for first, last in spans for page in range(first, last)]


#: So many bytes that an answer about them takes longer than a signal.
LARGE = 16 << 30


@contextlib.contextmanager
def reservation(kind=fpm.WriteTracker):
    """LARGE bytes of small pages, none of them written."""
    with mmap.mmap(-1, LARGE, flags=memory.PRIVATE | linux.MAP_NORESERVE) as made:
        made.madvise(linux.MADV_NOHUGEPAGE)
        if kind is fpm.AccessTracker:  # else there are no page tables, and an answer takes no time
            made.madvise(linux.MADV_POPULATE_READ, 0, LARGE // 8)
        yield made
