"""PAGEMAP_SCAN of this process's memory under userfaultfd: report pages and protect them again.

Written pages are protected in the same step. Accessed ones are protected after it, and only those:
what is accessed in between is in the report already.

What was protected again, but not reported, would be lost. So when an exception or memory that is
not tracked any more comes in between, the protection of those pages is lifted: they count as used.
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EFAULT, EINVAL, EIO, ENOMEM, EOPNOTSUPP, EPERM
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset
from posix.unistd cimport getpid

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.growing cimport append, found_t, reserve
from fastpagemap._kernel.reading cimport PAGE_SHIFT
from fastpagemap._kernel.rwp cimport look, next_mapping, part_t
from fastpagemap._kernel.scan cimport REGIONS, TIME_SLICE_NS, now
from fastpagemap._kernel.uffd cimport Userfaultfd, why_refused

from .failures import failure

cdef enum:
    # Ranges begin and end at multiples of so many pages, so that they cut no huge page.
    ALIGNMENT_PAGES = 1 << 14
    # Pages a call looks at, at most: about 1 ms, if they turn out to be small pages.
    MAX_STEP_PAGES = 1 << 17
    # A call that took less may look at more pages next time.
    QUICK_TIME_NS = 100_000

ctypedef struct sweep_t:
    int fd
    int maps
    int rwp                 # what protects accessed pages again, or all if none are wanted; or -1
    uint64_t at
    uint64_t end
    uint64_t alignment      # of the ranges, in bytes
    uint64_t step           # bytes that the next call looks at
    abi.scan_arg asked
    uint8_t *mask           # from the page at `at` on; NULL if not wanted
    bint zeroed             # whether the mask is all 0 already
    found_t *found          # regions; NULL if not wanted


cdef void begin(sweep_t *sweep, int fd, int maps, Userfaultfd watch, bint protect) noexcept nogil:
    memset(sweep, 0, sizeof(sweep[0]))
    sweep.fd, sweep.maps, sweep.rwp = fd, maps, -1
    sweep.at, sweep.end = watch.start, watch.end
    sweep.alignment = sweep.step = <uint64_t> ALIGNMENT_PAGES << PAGE_SHIFT
    if watch.accesses:
        if protect:
            sweep.rwp = watch.fd
        sweep.asked.category_mask = sweep.asked.return_mask = abi.PAGE_IS_ACCESSED
        return
    sweep.asked.flags = abi.PM_SCAN_CHECK_WPASYNC
    if protect:
        sweep.asked.flags |= abi.PM_SCAN_WP_MATCHING
    sweep.asked.category_mask = sweep.asked.return_mask = abi.PAGE_IS_WRITTEN


cdef void put(sweep_t *sweep, uint64_t reached, const abi.page_region *regions,
              int count) noexcept nogil:
    """Put the regions found into the mask or the list, and move on to `reached`."""
    cdef size_t page
    cdef int i, shift = PAGE_SHIFT
    if sweep.found is not NULL:
        append(sweep.found, regions, count, 0)
    elif sweep.mask is not NULL:
        if not sweep.zeroed:
            memset(sweep.mask, 0, (reached - sweep.at) >> shift)
        for i in range(count):
            page = (regions[i].start - sweep.at) >> shift
            if regions[i].end - regions[i].start == <uint64_t> 1 << shift:  # by far the most are
                sweep.mask[page] = 1
            else:
                memset(sweep.mask + page, 1, (regions[i].end - regions[i].start) >> shift)
        sweep.mask += (reached - sweep.at) >> shift
    sweep.at = reached


cdef int count_filled(const abi.page_region *regions) noexcept nogil:
    """Return how many regions a call has found before it failed: the kernel does not say."""
    cdef int i = 0
    while i < REGIONS and regions[i].end:
        i += 1
    return i


cdef uint64_t range_end(const sweep_t *sweep) noexcept nogil:
    """Return where the next range ends: within one mapping, if it is not the scan that protects."""
    cdef part_t part
    cdef uint64_t end = sweep.end, alignment = sweep.alignment
    if sweep.rwp >= 0 and next_mapping(sweep.maps, sweep.at, end, &part) == 0:
        end = part.end
        alignment = max(alignment, part.page_size)
    return min(end, (sweep.at + max(sweep.step, alignment)) // alignment * alignment)


cdef ssize_t advance(sweep_t *sweep) noexcept nogil:
    """Sweep on, for TIME_SLICE_NS or to the end.

    On an error, the pages protected before it are reported all the same.
    """
    cdef abi.page_region[REGIONS] regions
    cdef abi.scan_arg arg
    cdef uint64_t began = now(), last = began, took
    cdef bint wanted = sweep.mask is not NULL or sweep.found is not NULL
    cdef ssize_t count
    cdef int i
    memset(regions, 0, sizeof(regions))
    while sweep.at < sweep.end and last - began < TIME_SLICE_NS:
        # Before the call: pages that it protects again must not be lost.
        if sweep.found is not NULL and reserve(sweep.found, REGIONS) < 0:
            return -ENOMEM
        arg = sweep.asked
        arg.start = sweep.at
        arg.end = range_end(sweep)
        count = look(sweep.fd, sweep.rwp, &arg, regions if wanted else NULL)
        if count == -EIO:
            # A huge page that is larger than the range is passed over.
            if arg.end >= sweep.end:
                return -EINVAL
            sweep.alignment *= 8
            sweep.step = max(sweep.step, sweep.alignment)
            continue
        if count < 0:
            put(sweep, arg.end, regions, count_filled(regions))
            return count
        put(sweep, arg.start, regions, count)
        if wanted:
            for i in range(count):
                regions[i].end = 0
        took = now() - last
        last += took
        if took < QUICK_TIME_NS:
            sweep.step = max(sweep.step,
                             min(4 * sweep.step, <uint64_t> MAX_STEP_PAGES << PAGE_SHIFT))
        elif sweep.step > sweep.alignment:
            sweep.step = sweep.alignment
    return 0


cdef int run(sweep_t *sweep, Userfaultfd watch, object path) except -1:
    """Sweep to the end; signal handlers run in between. EPERM in a child that one has forked."""
    cdef ssize_t got
    while sweep.at < sweep.end:
        with nogil:
            got = advance(sweep) if watch.owner == getpid() else -EPERM
        if got == -ENOMEM:
            raise MemoryError
        if got < 0:
            raise failure(-why_refused(sweep.fd, got), path)
        PyErr_CheckSignals()
    return 0


def protect(int fd, int maps, Userfaultfd watch, object path):
    """Protect the pages of the span that is registered with userfaultfd."""
    cdef sweep_t sweep
    begin(&sweep, fd, maps, watch, True)
    sweep.step = <uint64_t> MAX_STEP_PAGES << PAGE_SHIFT
    run(&sweep, watch, path)
    check(watch, fd, maps, path)
    # Without scans, accesses can be protected and never told.
    if watch.accesses and why_refused(fd, -EPERM) != -EPERM:
        raise failure(EOPNOTSUPP, path)


cdef int check(Userfaultfd watch, int fd, int maps, object path) except -1:
    """Raise OSError unless the whole span is registered: EFAULT for a gap; else as `check`."""
    cdef int problem
    with nogil:
        problem = -EFAULT if watch.has_gap(maps) else watch.check(fd, maps)
    if problem < 0:
        raise failure(-problem, path)
    return 0


cdef class Answer:
    """One answer about a tracked span. What it has taken can be given back, until it is told.

    With `reset`, it is checked before and after that the span is this userfaultfd's: another may
    have got the addresses, and its writes must not be taken.
    """

    cdef sweep_t sweep
    cdef found_t found
    cdef Userfaultfd watch
    cdef int fd, maps
    cdef object path
    cdef Py_buffer mask
    cdef bint masked        # whether there is a mask
    cdef bint taken         # whether there is something to give back

    def __cinit__(self, Userfaultfd watch, int fd, int maps, object path):
        self.watch, self.fd, self.maps, self.path = watch, fd, maps, path

    def __dealloc__(self):
        free(self.found.regions)
        if self.masked:
            PyBuffer_Release(&self.mask)

    def fill(self, object mask, bint reset, bint zeroed):
        """Fill the mask of all pages, a byte each: 1 if used since they were protected.

        `zeroed`: the mask is all 0 already. EPERM: part of the pages is not registered (any more).
        """
        cdef Userfaultfd watch = self.watch
        cdef uint64_t first, last
        cdef size_t i
        cdef uint8_t *pages
        PyObject_GetBuffer(mask, &self.mask, PyBUF_WRITABLE)
        self.masked = True
        pages = <uint8_t *> self.mask.buf
        if self.mask.len != <Py_ssize_t> ((watch.end - watch.start) >> PAGE_SHIFT):
            raise ValueError(f"a mask of {self.mask.len} bytes")
        begin(&self.sweep, self.fd, self.maps, watch, reset)
        self.sweep.mask = pages
        self.sweep.zeroed = zeroed
        self.ask(reset)
        for i in range(watch.kept.count):
            first = (watch.kept.regions[i].start - watch.start) >> PAGE_SHIFT
            last = (watch.kept.regions[i].end - watch.start) >> PAGE_SHIFT
            memset(pages + first, 1, last - first)
        if reset:
            watch.kept.count = 0

    def regions(self, tuple asked, bint reset):
        """Return the regions of the span as bytes of `struct page_region`, sorted and merged.

        `asked`: mask, anyof, inverted, returns. `reset` protects the pages of these regions again.
        """
        cdef Userfaultfd watch = self.watch
        begin(&self.sweep, self.fd, self.maps, watch, reset)
        self.sweep.asked.category_mask, self.sweep.asked.category_anyof_mask = asked[0], asked[1]
        self.sweep.asked.category_inverted, self.sweep.asked.return_mask = asked[2], asked[3]
        self.sweep.found = &self.found
        self.ask(reset)
        if watch.kept.count:
            # Which categories these pages have cannot be asked without protecting them again.
            raise failure(
                EOPNOTSUPP, "UFFDIO_RWPROTECT" if watch.accesses else "UFFDIO_WRITEPROTECT")
        return PyBytes_FromStringAndSize(<char *> self.found.regions,
                                         self.found.count * sizeof(abi.page_region))

    cdef int ask(self, bint reset) except -1:
        cdef Userfaultfd watch = self.watch
        cdef int problem
        if watch.kept.count:
            with nogil:
                watch.lift_kept(self.fd, self.maps)
        if reset:
            with nogil:
                problem = watch.check(self.fd, self.maps)
            if problem < 0:
                raise failure(-problem, self.path)
            self.taken = True
        try:
            run(&self.sweep, watch, self.path)
            check(watch, self.fd, self.maps, self.path)
        except BaseException:
            self.give_back()
            raise
        return 0

    def give_back(self):
        """Make the pages that were protected again count as written; a second call does nothing.

        The GIL is kept: no other thread can close the descriptor meanwhile.
        """
        cdef uint64_t first = 0, last, start = self.watch.start
        cdef uint64_t pages = (self.sweep.at - start) >> PAGE_SHIFT
        cdef const uint8_t *mask
        cdef size_t i
        if not self.taken:
            return
        self.taken = False
        for i in range(self.found.count):
            self.watch.lift_or_keep(
                self.fd, self.maps, self.found.regions[i].start, self.found.regions[i].end)
        if not self.masked:
            return
        mask = <const uint8_t *> self.mask.buf
        while first < pages:
            if not mask[first]:
                first += 1
                continue
            last = first + 1
            while last < pages and mask[last]:
                last += 1
            self.watch.lift_or_keep(
                self.fd, self.maps, start + (first << PAGE_SHIFT), start + (last << PAGE_SHIFT))
            first = last
