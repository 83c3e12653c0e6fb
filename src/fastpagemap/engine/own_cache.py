"""Which pages are in the page cache, of a file that this process itself has mapped: mincore.

It needs no open file, and sees through an overlay. What a private mapping has copied hides the
file's page. And to those who may not ask, mincore calls everything in core.
"""

import os
import re

import numpy as np

from .._kernel import cached, pagecache
from .._kernel.descriptor import open_file
from .._kernel.failures import IgnoringFileErrors
from .._kernel.lines import read_all
from .._kernel.own_files import own_file
from ..model.entry import Flag
from ..model.mapping import Mapping
from ..model.questions import Mask
from ..process.backing import Backings
from ..process.local_files import LocalFiles

__all__ = ["fill_own"]


_FILE = np.uint64(int(Flag.PRESENT | Flag.FILE))
_EFFECTIVE = re.compile(rb"^CapEff:\s*([0-9a-f]+)", re.MULTILINE)
_CAP_FOWNER = 1 << 3
# As in the first user namespace, where every user is known.
_ALL_USERS = [0, 0, (1 << 32) - 1]


def fill_own(
    backings: Backings, local: LocalFiles, mapping: Mapping, start: int, mask: Mask
) -> bool:
    """Fill the mask of a part of a mapping of this process; return whether it could be told."""
    process = backings.files.process
    if not process.is_this or not _may_be_asked(backings, local, mapping):
        return False
    entries = np.empty(len(mask), np.uint64)
    process.read_entries(start, entries)
    if not cached.own_in_core(start, mask.view(np.uint8)):
        return False
    of_file = entries & _FILE == _FILE
    empty = entries & ~np.uint64(int(Flag.SOFT_DIRTY)) == 0
    # All in core: it may be that, or that this user may not ask.
    allowed = not mask[empty].all() or not empty.any() or _is_capable()
    mask |= of_file
    return bool(allowed and (of_file | empty).all())


def _may_be_asked(backings: Backings, local: LocalFiles, mapping: Mapping) -> bool:
    """Return whether mincore tells about the page cache, and asks no server for permission."""
    if backings.is_hugetlb(mapping):
        return False
    if backings.is_shmem(mapping):
        # It calls a swapped page with a copy in the swap cache in core.
        return not pagecache.swap_in_use()
    return local.is_local(mapping) or (bool(local.kind(mapping)) and _is_capable())


def _is_capable() -> bool:
    """Return whether this thread is treated as the owner of any file."""
    with IgnoringFileErrors():
        status = open_file(own_file("status"), os.O_RDONLY)
        users = open_file(own_file("uid_map"), os.O_RDONLY)
        found = _EFFECTIVE.search(read_all(status.fd, "status"))
        known = [int(field) for field in read_all(users.fd, "uid_map").split()]
        return found is not None and bool(int(found[1], 16) & _CAP_FOWNER) and known == _ALL_USERS
    return False
