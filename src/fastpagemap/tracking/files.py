"""Which memory of files is tracked: where the kernel does not tell, or does harm, it is refused."""

import errno
import stat

from ..model.errors import UnsupportedError
from ..model.mapping import Mapping
from ..process.backing import Backings
from ..process.probes import version
from ..process.process import Process

__all__ = ["check_file"]

_PRIVATE = (
    "a private mapping of shared memory: the kernel does not tell what MADV_DONTNEED takes away "
    "from it, nor what changes in the file"
)
# mm/filemap.c, filemap_fault_recheck_pte_none (Linux 6.10) takes a marker for a page.
_FILE = (
    "the memory of a file: the kernel (seen on Linux 6.12 to 7.3) would loop for ever in mlock(2) "
    "of it, once a page that is protected has left the page cache. Anonymous memory and shared "
    "memory (memfd, /dev/shm) can be tracked"
)
# fs/userfaultfd.c, userfaultfd_unregister: a BUG_ON finds a mapping twice that cannot be merged.
_UNMERGEABLE = (
    "memory that can be tracked on Linux 6.18 or newer: an older kernel (seen on 6.12) may crash "
    "when the tracking of a SysV segment or of a device's memory ends"
)


def check_file(process: Process, mapping: Mapping) -> None:
    """Raise UnsupportedError for a file's memory, unless it is hugetlb or shared memory."""
    reason = "" if mapping.anonymous else _reason(Backings(process), mapping)
    if reason:
        where = f"{mapping.start:#x}-{mapping.end:#x} ({mapping.path})"
        raise UnsupportedError(errno.EOPNOTSUPP, f"{where} is {reason}")


def _reason(backings: Backings, mapping: Mapping) -> str:
    """Return why a mapping of a file is not tracked; nothing if it is."""
    shmem, old = backings.is_shmem(mapping), version() < (6, 18)
    if shmem and mapping.shared:
        return _UNMERGEABLE if old and mapping.path.startswith("/SYSV") else ""
    if backings.is_hugetlb(mapping):
        return ""
    if _is_no_file(backings, mapping):  # of /dev/zero a private mapping is anonymous memory
        return _UNMERGEABLE if old and mapping.path != "/dev/zero" else ""
    return _PRIVATE if shmem else _FILE


def _is_no_file(backings: Backings, mapping: Mapping) -> bool:
    """Return whether a mapping is known to be of a device, a socket or another kernel object."""
    found = (about.mode for _, about in backings.files.found(mapping))
    return not stat.S_ISREG(next(found, stat.S_IFREG))
