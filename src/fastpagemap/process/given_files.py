"""Files that a user names, opened to ask which of their pages are cached.

To name a file is to allow that it is opened. So a server may be asked about it, which need not
answer: whoever calls this has a time-out. Nothing else may happen: no lease is broken, nothing but
a regular file is opened.
"""

import errno
import os
import stat

from .._kernel.descriptor import open_file
from ..model.entry import page_count
from ..model.errors import UnsupportedError
from .leases import Leases
from .local_files import Opened
from .opening import is_tmpfs, look, pass_over, reopen_quietly

__all__ = ["open_given"]

_KINDS = {
    stat.S_IFDIR: "a directory: name the files in it",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_given(path: str, leases: Leases) -> Opened:
    """Open a regular file for reading.

    Raises
    ------
    UnsupportedError
        It is no regular file, a sandbox forbids to look at it, or a process holds a lease on it.
        Leases are seen of the processes that this pid namespace shows.
    """
    file = open_file(path, os.O_PATH)
    try:
        found = look(file)
    except OSError as error:
        pass_over(error)
        why = f"what it is cannot be asked (statx): {error.strerror}"
        raise UnsupportedError(errno.EOPNOTSUPP, why, path) from None
    if not stat.S_ISREG(found.mode):
        what = _KINDS.get(stat.S_IFMT(found.mode), "no regular file")
        raise UnsupportedError(errno.EOPNOTSUPP, f"it is {what}", path)
    tmpfs = is_tmpfs(file)
    if leases.cover(found, path, exact=tmpfs):
        why = "a process holds a lease on it, which would break if it were opened"
        raise UnsupportedError(errno.EOPNOTSUPP, why, path)
    try:
        opened, quiet = reopen_quietly(file)
    except FileNotFoundError:
        why = "it can only be opened through /proc, which is not mounted here"
        raise UnsupportedError(errno.EOPNOTSUPP, why, path) from None
    except OSError as error:
        raise type(error)(error.errno, error.strerror, path) from None
    # Files of a stacked file system and of FUSE may have another size by now.
    size = os.fstat(opened.fd).st_size
    return Opened(opened, quiet, tmpfs, page_count(size))
