"""The file that backs a mapping: what it is, and the ways to open it.

The process that is read chooses its paths, descriptors, mounts and locks. So nothing is looked at
where that may wait for a server, have an effect, or lead elsewhere: a file is found by O_PATH, a
path is walked below the process's own root and in the kernel's memory alone, and only files of
shared memory are opened; see `local_files` for those of disks.
"""

import errno
import functools
import os
import stat
from collections.abc import Callable, Iterator

from .._kernel import descriptor
from .._kernel.descriptor import Descriptor, open_resolved
from ..model.mapping import Mapping
from .descriptors import Descriptors
from .leases import Leases
from .mounts import Mounts, own_mounts, parse_mounts
from .opening import Stat, is_tmpfs, look, pass_over, reopen
from .overlay import Layers
from .process import Process

__all__ = ["Files"]

_IN_MEMORY = descriptor.RESOLVE_IN_ROOT | descriptor.RESOLVE_NO_SYMLINKS | descriptor.RESOLVE_CACHED


# The kernel lists a page of locks at once. In what it lists later, one may be missing if another
# was released meanwhile. And it costs more than to look at the descriptors of a usual process.
_MAX_LOCK_BYTES = 3 << 10


class Files:
    """The files that one process has mapped.

    It caches what it finds: make a new one for each public call, because that goes stale.
    """

    def __init__(self, process: Process, kernel_tmpfs: int = 0) -> None:
        """Take a process, and the device of the kernel's own tmpfs; 0 if that is not known."""
        self.process = process
        self._kernel_tmpfs = kernel_tmpfs
        self._descriptors = Descriptors(process)
        self._leases = Leases(_MAX_LOCK_BYTES)
        self._modes: dict[tuple[int, int, str], int] = {}

    @functools.cached_property
    def mounts(self) -> Mounts:
        """The mounts of the process that is read, and of this one, when it was first asked."""
        return self.own_mounts | self._their_mounts()

    def mounts_now(self) -> Mounts:
        """Return the mounts of both processes as they are now."""
        return self._own_mounts() | self._their_mounts()

    @functools.cached_property
    def own_mounts(self) -> Mounts:
        """The mounts that this process sees, when it was first asked."""
        return self._own_mounts()

    @staticmethod
    def _own_mounts() -> Mounts:
        try:
            return own_mounts()
        except OSError as error:
            pass_over(error)
            return {}

    def _their_mounts(self) -> Mounts:
        try:
            return parse_mounts(self.process.lines("mountinfo"))
        except OSError as error:
            pass_over(error)
        except MemoryError:  # mount points whose paths come to many MiB
            pass
        return {}

    @functools.cached_property
    def _layers(self) -> Layers:
        return Layers(self.process, self.own_mounts, self.mounts)

    # ---- what it is ----

    def is_device(self, mapping: Mapping) -> bool:
        """Return whether a mapping is known to be of a character device.

        /dev/zero is on a tmpfs, but a private mapping of it holds anonymous memory.
        """
        if mapping.device == self._kernel_tmpfs:
            return False
        key = mapping.device, mapping.inode, mapping.path
        if key not in self._modes:
            self._modes[key] = next((found.mode for _, found in self.found(mapping)), 0)
        return stat.S_ISCHR(self._modes[key])

    def is_on_tmpfs(self, mapping: Mapping) -> bool:
        """Return whether a mapping's file was found, and is on a tmpfs."""
        return any(self._is_tmpfs(file, found) for file, found in self.found(mapping))

    def _is_tmpfs(self, file: Descriptor, found: Stat) -> bool:
        """Return whether a file is on a tmpfs.

        Each is asked: another file system may get the device of one that was unmounted.
        """
        return found.device == self._kernel_tmpfs or is_tmpfs(file)

    # ---- ways to it ----

    def descriptors(self, mapping: Mapping) -> Iterator[Descriptor]:
        """Yield a mapping's file of shared memory, opened in each way that works.

        No other file is opened: to open a pipe, a device or a file of FUSE has effects, and may
        wait. Nor is one that the process holds a lease on, because that would send it a signal.

        Raises
        ------
        OSError
            There are too many open files, or there is too little memory, to try all ways.
        """
        for file, found in self.found(mapping):
            try:
                if self._may_be_opened(file, found, mapping):
                    opened = reopen(file)
                else:
                    continue
            except OSError as error:
                pass_over(error)
                continue
            yield opened
        layer = self.layer(mapping, self._is_tmpfs)
        if layer is not None:
            yield layer

    def _may_be_opened(self, file: Descriptor, found: Stat, mapping: Mapping) -> bool:
        if not stat.S_ISREG(found.mode) or not self._is_tmpfs(file, found):
            return False
        return not self.is_leased(mapping)

    def is_leased(self, mapping: Mapping, *, own: bool = False) -> bool:
        """Return whether to open a mapping's file might break a lease.

        Of this process it is not known, because to look costs more than to answer, if `own` does
        not say so.
        """
        if self.process.pid == os.getpid() and not own:
            return False
        # Of the kernel's own tmpfs, only memfds have descriptors, which are needed for a lease.
        if mapping.device == self._kernel_tmpfs and not mapping.path.startswith("/memfd:"):
            return False
        # Also of a descriptor that was closed. And a process may have thousands of them.
        leased = self._leases.tell(mapping.device, mapping.inode)
        if leased is None:
            leased = self._descriptors.is_leased(mapping.path, mapping.inode)
        return leased

    def layer(
        self, mapping: Mapping, usable: Callable[[Descriptor, Stat], bool]
    ) -> Descriptor | None:
        """Open the file of an overlay's layer that a mapping shows, if it is sure and usable."""
        return self._layers.opened(mapping, usable)

    def found(
        self, mapping: Mapping, *, any_device: bool = False
    ) -> Iterator[tuple[Descriptor, Stat]]:
        """Yield a mapping's file by O_PATH for each way that works, and what it is.

        `any_device`: its file system shows another device in stat than in maps, so only the way
        through the mapping is sure.
        """
        for file, found, through_mapping in self._by_inode(mapping):
            if through_mapping if any_device else found.device == mapping.device:
                yield file, found

    def shown_devices(self, mapping: Mapping) -> set[int]:
        """Return the devices that stat shows of a mapping's file, by each way that works."""
        return {found.device for _, found, _ in self._by_inode(mapping)}

    def _by_inode(self, mapping: Mapping) -> Iterator[tuple[Descriptor, Stat, bool]]:
        """Yield what has a mapping's inode, and whether it was found through the mapping."""
        for find_by in (self._by_map_files, self._by_descriptor, self._by_path):
            try:
                file = find_by(mapping)
                found = look(file)
            except OSError as error:
                pass_over(error)
                continue
            if found.inode == mapping.inode:
                yield file, found, find_by == self._by_map_files

    def _by_map_files(self, mapping: Mapping) -> Descriptor:
        """Find the file through the mapping itself (CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE)."""
        name = f"map_files/{mapping.start:x}-{mapping.end:x}"
        return self.process.open(name, os.O_PATH)

    def _by_descriptor(self, mapping: Mapping) -> Descriptor:
        """Find the file through a descriptor of the process that is read.

        By its path too: a SysV segment, which has no descriptor, may have the inode of a memfd.
        """
        name = self._descriptors.name(mapping)
        if name is None:
            raise FileNotFoundError(errno.ENOENT, "no descriptor of it", mapping.path)
        return self.process.open(f"fd/{name}", os.O_PATH)

    def _by_path(self, mapping: Mapping) -> Descriptor:
        """Find the file by its path under the process's root, if the kernel has it in memory.

        The kernel has, as the file is mapped (RESOLVE_CACHED, Linux 5.12).
        """
        if not mapping.path.startswith("/") or mapping.path.endswith(" (deleted)"):
            raise FileNotFoundError(errno.ENOENT, "it has no path", mapping.path)
        root = self.process.open("root", os.O_PATH | os.O_DIRECTORY)
        return open_resolved(mapping.path, os.O_PATH, _IN_MEMORY, root.fd)
