"""Files that a user names, opened to ask which of their pages are cached.

To name a file is to allow that it is opened. So a server may be asked about it, which need not
answer: whoever calls this has a time-out. Nothing else may happen: no lease is broken, nothing but
a regular file is opened.
"""

import errno
import os
import re
import stat

from .._kernel.descriptor import open_file
from .._kernel.lines import read_all
from ..model.errors import UnsupportedError
from .local_files import Opened
from .opening import is_tmpfs, look, pass_over, reopen_quietly

__all__ = ["leased", "open_given"]

_LOCKS = "/proc/locks"
# To open a file for reading breaks such a lease, which may end its holder. The device is not
# compared: btrfs shows another one in stat.
_LEASE = re.compile(rb" (?:LEASE|DELEG) +(?:BREAKING|\S+ +WRITE) .*:(\d+) \d+ \S+$", re.MULTILINE)
_KINDS = {
    stat.S_IFDIR: "a directory: name the files in it",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_given(path: str) -> Opened:
    """Open a regular file for reading.

    Raises
    ------
    UnsupportedError
        It is no regular file, or a process holds a lease on it. Leases are seen of the processes
        that this pid namespace shows.
    """
    file = open_file(path, os.O_PATH)
    found = look(file)
    if not stat.S_ISREG(found.mode):
        what = _KINDS.get(stat.S_IFMT(found.mode), "no regular file")
        raise UnsupportedError(errno.EOPNOTSUPP, f"it is {what}", path)
    if found.inode in leased():
        why = "a process holds a lease on it, which would break if it were opened"
        raise UnsupportedError(errno.EOPNOTSUPP, why, path)
    try:
        opened, quiet = reopen_quietly(file)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, path) from None
    # Files of a stacked file system and of FUSE may have another size by now.
    size = os.fstat(opened.fd).st_size
    return Opened(opened, quiet, is_tmpfs(file), -(-size // os.sysconf("SC_PAGESIZE")))


def leased() -> set[int]:
    """Return the inodes of files that a process holds a lease for writing on."""
    try:
        locks = open_file(_LOCKS, os.O_RDONLY)
        text = read_all(locks.fd, _LOCKS)
    except OSError as error:
        pass_over(error)
        return set()
    return {int(inode) for inode in _LEASE.findall(text)}
