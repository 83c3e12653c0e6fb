"""Makers of every kind of memory without a file: each returns a `Memory` as its name says.

Standard library alone, and no fastpagemap: a bare child interpreter makes memory with the same
code.
"""

import contextlib
import ctypes
import mmap
import os
import time

import linux
import oracle
from linux import PAGE
from needs import Absent, need, refusal

NONE = 0
READ = mmap.PROT_READ
READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
SHARED = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS

#: Pages before and after every memory made here that belong to nobody.
GAP_PAGES = 8

# Memory made here lies far below where the kernel puts what is mapped next: it takes the highest
# hole that fits. Else an allocation may land in a hole that a test made, and goes with the test.
_LOWEST, _HIGHEST = 1 << 45, 1 << 46
_places = {"next": _LOWEST}

_THP = "/sys/kernel/mm/transparent_hugepage"
_KSM = "/sys/kernel/mm/ksm"


def _place_for(size):
    """A hint where to map so many bytes; taken or out of reach, the kernel chooses by itself."""
    if _places["next"] + size > _HIGHEST:
        _places["next"] = _LOWEST
    place = _places["next"]
    _places["next"] += size + PAGE
    return place


class Memory:
    """Pages of this process's addresses from `start` on, with a gap before and after.

    The gaps are what makes a mapping stay itself: the kernel merges neighbours of equal flags, and
    then one line of maps, and one history of soft-dirty bits, speaks for both. Pages are named by
    their index.
    """

    def __init__(
        self, pages, flags=PRIVATE, protection=READ_WRITE, fd=-1, offset=0, align=PAGE, undo=None
    ):
        """Map `pages` of fd from page `offset` on, or anonymous memory.

        close() unmaps, closes fd, and then does what stands in the ExitStack `undo`.
        """
        self.pages, self.fd = pages, fd
        self.undo = undo or contextlib.ExitStack()
        if fd >= 0:
            self.undo.callback(os.close, fd)
        size = (pages + 2 * GAP_PAGES) * PAGE + align
        place = _place_for(size)
        self._gap = linux.call("mmap", place, size, NONE, PRIVATE | linux.MAP_NORESERVE, -1, 0)
        self.undo.callback(linux.call, "munmap", self._gap, size)
        self.start = -(-(self._gap + GAP_PAGES * PAGE) // align) * align
        self.end = self.start + pages * PAGE
        with self.undone_on_error():
            self.map(flags, protection, fd, offset)

    def map(self, flags, protection=READ_WRITE, fd=-1, offset=0, first=0, last=None):
        """Put another mapping over pages `first` to `last`."""
        start, size = self._span(first, last)
        linux.call("mmap", start, size, protection, flags | linux.MAP_FIXED, fd, offset * PAGE)
        # Huge pages only where a maker asks for them, whatever the machine's default is.
        with contextlib.suppress(OSError):
            linux.call("madvise", start, size, linux.MADV_NOHUGEPAGE)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        """Unmap, and undo whatever else its maker did."""
        self.undo.close()

    @contextlib.contextmanager
    def undone_on_error(self):
        """For makers: a memory that never became what it should be is closed."""
        try:
            yield self
        except BaseException:
            self.close()
            raise

    def at(self, page):
        """The address of a page."""
        return self.start + page * PAGE

    def _span(self, first, last):
        last = self.pages if last is None else last
        return self.at(first), (last - first) * PAGE

    def write(self, first=0, last=None, step=1, value=1):
        """Write one byte into every step-th page."""
        for page in range(first, self.pages if last is None else last, step):
            ctypes.memset(self.at(page), value, 1)
        return self

    def read(self, first=0, last=None, step=1):
        """Read one byte of every step-th page; return the bytes."""
        pages = range(first, self.pages if last is None else last, step)
        return b"".join(ctypes.string_at(self.at(page), 1) for page in pages)

    def advise(self, advice, first=0, last=None):
        """madvise(2) on pages `first` to `last`."""
        linux.call("madvise", *self._span(first, last), advice)
        return self

    def protect(self, protection, first=0, last=None):
        """mprotect(2) on pages `first` to `last`."""
        linux.call("mprotect", *self._span(first, last), protection)
        return self

    def lock(self, first=0, last=None):
        """mlock(2): nobody takes the pages away, not even a kernel that reclaims what is idle."""
        linux.call("mlock", *self._span(first, last))
        return self

    def unmap(self, first=0, last=None):
        """Leave a hole, in which nothing is mapped at all."""
        linux.call("munmap", *self._span(first, last))
        return self

    def drop(self, first=0, last=None):
        """MADV_DONTNEED: forget the pages."""
        return self.advise(mmap.MADV_DONTNEED, first, last)


def untouched(pages):
    """Private anonymous memory of which no page exists yet."""
    return Memory(pages)


def touched(pages, step=1):
    """Private anonymous memory, every step-th page written."""
    return Memory(pages).write(step=step)


def sparse(pages):
    """Private anonymous memory, every third page written."""
    return touched(pages, step=3)


def zero(pages):
    """Private anonymous memory only ever read: every page is the zero page."""
    memory = Memory(pages)
    memory.read()
    return memory


def freed(pages):
    """Written, then given up by MADV_FREE: still present until memory runs short."""
    return touched(pages).advise(linux.MADV_FREE)


def protected(pages):
    """Written, then made inaccessible: the pages stay present."""
    return touched(pages).protect(NONE)


def gap(pages):
    """Written, with a hole in its middle third, of a page at least, where nothing is mapped."""
    return touched(pages).unmap(pages // 3, max(2 * pages // 3, pages // 3 + 1))


def guarded(pages):
    """Written, every fourth page then made a guard region."""
    memory = touched(pages)
    with memory.undone_on_error():
        try:
            for page in range(0, pages, 4):
                memory.advise(linux.MADV_GUARD_INSTALL, page, page + 1)
        except OSError as error:
            raise Absent("guard regions (Linux 6.13)") from error
    need(True, "guard regions (Linux 6.13)")
    return memory


def huge_page_pages():
    """Small pages in one huge page of the page table's middle level."""
    try:
        return linux.read_int(f"{_THP}/hpage_pmd_size") // PAGE
    except OSError as error:
        raise Absent("transparent huge pages") from error


def _aligned(pages):
    """Untouched memory that can be huge: aligned, and rounded up to whole huge pages."""
    each = huge_page_pages()
    memory = Memory(-(-pages // each) * each, align=each * PAGE)
    with memory.undone_on_error():
        try:
            return memory.advise(linux.MADV_HUGEPAGE)
        except OSError as error:
            raise Absent("transparent huge pages") from error


def huge(pages):
    """Transparent huge pages, mapped whole; `pages` is rounded up to them.

    What is dropped of them stays so: khugepaged, which would fill it, lets this memory be.
    """
    memory = _aligned(pages)
    with memory.undone_on_error():
        memory.write()
        for _ in range(20):
            if _is_huge(memory):
                break
            # Memory was fragmented: ask for it more firmly (Linux 6.1). The kernel says EAGAIN,
            # EBUSY or ENOMEM where a page is just in use, or no room could be made at once.
            with contextlib.suppress(OSError):
                memory.advise(linux.MADV_COLLAPSE)
        need(_is_huge(memory), "transparent huge pages")
        return memory.advise(mmap.MADV_NOHUGEPAGE)


def _is_huge(memory):
    return oracle.smaps()[memory.start, memory.end]["AnonHugePages"] == memory.pages * PAGE


def huge_zero(pages):
    """Huge memory of which each huge page was only read: the huge zero page."""
    memory = _aligned(pages)
    each = huge_page_pages()
    memory.read(step=each)
    with memory.undone_on_error():
        present = all(
            oracle.decode(word).present for word in oracle.words(memory.start, memory.end)
        )
        need(present, "the huge zero page (use_zero_page)", Absent)
    return memory


def merged(pages):
    """Written pages of equal content, that the kernel merged into one (KSM; root).

    Nobody else has pages of that content, which the kernel would merge with these.
    """
    memory, content = touched(pages), os.urandom(16)
    for page in range(pages):
        ctypes.memmove(memory.at(page), content, len(content))
    with memory.undone_on_error():
        merge(memory, 0, pages)
    return memory


def merge(memory, first, last, patience=5.0):
    """Have the kernel merge pages of equal content into one (KSM; root)."""
    try:
        with _merging_at_once():
            memory.advise(linux.MADV_MERGEABLE, first, last)
            deadline = time.monotonic() + patience
            while len(set(_frames(memory)[first:last])) > 1 and time.monotonic() < deadline:
                time.sleep(0.02)
            need(len(set(_frames(memory)[first:last])) == 1, "page merging (KSM)", Absent)
    except OSError as error:
        raise refusal(error, "page merging (KSM)") from error


@contextlib.contextmanager
def _merging_at_once():
    """Have KSM hurry, and do afterwards what it did before."""
    before = {}
    with linux.alone(_KSM):
        try:
            for name, value in {"sleep_millisecs": 1, "pages_to_scan": 20000, "run": 1}.items():
                before[name] = linux.read_int(f"{_KSM}/{name}")
                linux.write_text(f"{_KSM}/{name}", value)
            yield
        finally:
            for name, value in before.items():
                with contextlib.suppress(OSError):
                    linux.write_text(f"{_KSM}/{name}", value)


def _frames(memory):
    return [oracle.decode(word).pfn for word in oracle.words(memory.start, memory.end)]
