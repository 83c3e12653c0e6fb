"""On which NUMA node pages are, by move_pages(2): asked where to move them, it only looks."""

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EINTR, errno
from libc.stdint cimport int16_t, uint64_t

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.reading cimport PAGE_SHIFT

from .failures import failure

cdef enum:
    BATCH_PAGES = 1024
    # Batches between two checks for a pending signal: 10 ms.
    SIGNAL_CHECK_BATCHES = 64


ctypedef struct batch_t:
    uint64_t[BATCH_PAGES] addresses
    int[BATCH_PAGES] found
    size_t count


cdef int ask(int pid, batch_t *batch, uint64_t origin, int16_t *out) noexcept nogil:
    """Put the nodes of a batch into `out`; -1 for a page that is not there."""
    cdef size_t i
    cdef long got
    if not batch.count:
        return 0
    while True:
        got = abi.syscall(abi.SYS_move_pages, <long> pid, <unsigned long> batch.count,
                          batch.addresses, NULL, batch.found, <long> 0)
        if got >= 0:
            break
        if errno != EINTR:
            return -errno
    for i in range(batch.count):
        out[(batch.addresses[i] - origin) >> PAGE_SHIFT] = (
            <int16_t> batch.found[i] if batch.found[i] >= 0 else -1)
    batch.count = 0
    return 0


def nodes(int pid, object path, const uint64_t[::1] starts, const uint64_t[::1] ends,
          uint64_t origin, int16_t[::1] out):
    """Put the nodes of the pages of spans into `out`, whose first element is for `origin`.

    `pid` is 0 for this process.
    """
    cdef batch_t batch
    cdef Py_ssize_t i = 0, spans = starts.shape[0]
    cdef uint64_t at = starts[0] if spans else 0
    cdef int got = 0, batches
    batch.count = 0
    while i < spans and got >= 0:
        with nogil:
            batches = 0
            while i < spans and batches < SIGNAL_CHECK_BATCHES and got >= 0:
                while batch.count < BATCH_PAGES and at < ends[i]:
                    batch.addresses[batch.count] = at
                    batch.count += 1
                    at += <uint64_t> 1 << PAGE_SHIFT
                if at >= ends[i]:
                    i += 1
                    if i < spans:
                        at = starts[i]
                if batch.count == BATCH_PAGES or i == spans:
                    got = ask(pid, &batch, origin, &out[0])
                    batches += 1
        PyErr_CheckSignals()
    if got < 0:
        raise failure(-got, path)
