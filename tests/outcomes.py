"""What a WriteTracker tells of each way to change memory, on each kind of it.

Each is tried in a child, to which the kernel gives few seconds of processor time: some never end.
"""

import ctypes
import inspect
import resource

import numpy as np

import backed
import fastpagemap as fpm
import hugetlb
import linux
import memory
import needs
import runas
from linux import PAGE
from ways import WAYS, Place

PAGES = 16
#: Seconds of processor time.
LIMIT = 2


def huge(pages):
    # MADV_COLLAPSE is one of the ways
    return memory.huge(4 * memory.huge_page_pages()).advise(linux.MADV_HUGEPAGE)


def hugetlb_memfd(pages):
    return hugetlb.hugetlb_memfd(4 * 512).write()


def hugetlb_private(pages):
    """Half of the pages are left to the pool: a forked child needs some for its copies."""
    made = hugetlb.hugetlb(8 * 512)
    made.pages //= 2
    made.unmap(made.pages, 2 * made.pages)
    made.end = made.at(made.pages)
    return made


#: By what the documentation calls them.
KINDS = {
    "anonymous": memory.touched,
    "huge pages": huge,
    "hugetlb": hugetlb_private,
    "shared hugetlb": hugetlb_memfd,
    "shared anonymous": backed.shared_anonymous,
    "memfd": backed.memfd,
    "tmpfs": backed.posix,
    "SysV": backed.sysv,
}
REFUSED = {
    "memfd, private": backed.memfd_private,
    "file": backed.file_shared,
    "file, private": backed.file_private,
}

TOLD, ALL, MISSED = "told", "told, as all", "**not told**"
UNLESS_READ, OR_ALL = "told, unless read since", "told, or all if read since"
FALSE, NOTHING, IMPOSSIBLE = "told, though equal", "equal", ""
ENDS, NEVER, REFUSES = "tracking ends", "**never returns**", "refused"
#: What the outcome is if these two are seen: when asked at once, and when it is read before.
BOTH = {(TOLD, MISSED): UNLESS_READ, (TOLD, ALL): OR_ALL, (FALSE, NOTHING): FALSE}


def tracks(make):
    """Whether memory of a kind is tracked."""
    with make(PAGES) as made:
        try:
            fpm.WriteTracker(made.start, made.end).close()
        except fpm.UnsupportedError:
            return False
    return True


def outcome(make, way):
    """What is told of a way to change memory, in a word or two."""
    at_once = _tried(make, way, False)
    if at_once in (ENDS, NEVER, IMPOSSIBLE):
        return at_once
    after_reading = _tried(make, way, True)
    if at_once == after_reading:
        return at_once
    return BOTH[at_once, after_reading]


def _tried(make, way, reading):
    try:
        return runas.in_child(_try, make, way, reading)
    except RuntimeError as error:
        if "wait status 0x9)" not in str(error):
            raise
        return NEVER


def _try(make, way, reading):
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT))
    with make(PAGES) as made:
        quarter = made.pages // 4
        place = Place(made, quarter, 2 * quarter)
        act = WAYS[way]
        if inspect.isgeneratorfunction(act):
            steps = act(place)
            try:
                next(steps)
            except OSError:
                return IMPOSSIBLE
            return _told(made, lambda: next(steps, None), reading)
        return _told(made, lambda: act(place), reading)


def _told(made, act, reading):
    shown = (ctypes.c_char * (made.pages * PAGE)).from_address(made.start)
    pages = np.frombuffer(shown, np.uint8).reshape(made.pages, PAGE)
    with fpm.WriteTracker(made.start, made.end) as tracker:
        before = pages.copy()
        told = tracker.written()
        try:
            act()
        except (OSError, needs.Missing):
            return IMPOSSIBLE
        try:
            if reading:
                pages[:, 0].sum()
            told = tracker.written()
            after = pages.copy()
            told |= tracker.written()
        except OSError as error:
            if "not tracked any more" not in str(error):
                raise
            return ENDS
    changed = (before != after).any(axis=1)
    if (changed & ~told).any():
        return MISSED
    if told.any():
        all_told = told.all() and not changed[made.pages // 4 :].all()
        return (ALL if all_told else TOLD) if changed.any() else FALSE
    return NOTHING
