"""Which mappings are shared memory, and which of its pages are swapped.

The page table forgets a page of shared memory when it is swapped out: its entry reads like that of
a page never touched. Only the file behind the mapping knows.
"""

import contextlib
import errno
import functools
import os
import re
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from .._kernel import pagecache, reading
from ..model import entry
from ..model.entry import PAGE_SIZE
from ..model.mapping import Mapping
from ..process.files import Files
from ..process.mappings import mappings, within
from ..process.process import Process
from ..process.smaps import size_of, smaps

__all__ = ["SharedMemory"]

Mask = npt.NDArray[np.bool_]

_THP = "/sys/kernel/mm/transparent_hugepage"
_HUGE = re.compile(r"\[(always|within_size|advise|force)\]")
# devtmpfs is a tmpfs that the kernel fills
_TMPFS = (b"tmpfs", b"devtmpfs")
# the kernel's own files that are no shared memory, though on no mounted file system
_OTHER_FILES = ("/anon_hugepage", "/[aio]", "anon_inode:")


@functools.cache
def _kernel_tmpfs() -> int:
    """Return the device of the tmpfs that no one mounts: memfd, SysV and MAP_ANONYMOUS files."""
    fd = os.memfd_create("fastpagemap", os.MFD_CLOEXEC)
    try:
        return os.fstat(fd).st_dev
    finally:
        os.close(fd)


@functools.cache
def _kernel_hugetlbfs() -> frozenset[int]:
    """Return the devices of the hugetlbfs that no one mounts: one for each size of pages."""
    found = set()
    sizes: list[str] = []
    with contextlib.suppress(FileNotFoundError):  # not compiled in
        sizes = os.listdir("/sys/kernel/mm/hugepages")
    for name in sizes:
        size = int(name.removeprefix("hugepages-").removesuffix("kB")) * 1024
        flags = os.MFD_CLOEXEC | os.MFD_HUGETLB | (size.bit_length() - 1) << os.MFD_HUGE_SHIFT
        with contextlib.suppress(OSError):
            fd = os.memfd_create("fastpagemap", flags)
            try:
                found.add(os.fstat(fd).st_dev)
            finally:
                os.close(fd)
    return frozenset(found)


class SharedMemory:
    """What is known of the shared memory of one process.

    What is found out is kept, so that a call on many mappings finds it out once: to be made anew
    for every call from outside, as it goes stale.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        # by device: whether its files are shared memory; None: no one can tell
        self._verdicts: dict[int, bool | None] = {0: False, _kernel_tmpfs(): True}

    @functools.cached_property
    def _files(self) -> Files:
        return Files(self.process)

    # ---- which mappings ----

    def verdict(self, mapping: Mapping) -> bool | None:
        """Return whether a mapping is shared memory, or None where that cannot be known."""
        try:
            verdict = self._verdicts[mapping.device]
        except KeyError:
            verdict = self._learn(mapping.device)
        if verdict is None and mapping.path.startswith(_OTHER_FILES):
            return False
        return verdict

    def holds(self, mapping: Mapping) -> bool:
        """Return whether a mapping is shared memory, or may be."""
        return self.verdict(mapping) is not False

    def _learn(self, device: int) -> bool | None:
        """Find out about the files of a device."""
        if os.major(device):  # a file system on a block device
            self._verdicts[device] = False
        else:
            for mount in self._files.mounts:
                # an overlay's files are those of any of its layers
                verdict = None if mount.kind == b"overlay" else mount.kind in _TMPFS
                self._verdicts.setdefault(mount.device, verdict)
        return self._verdicts.setdefault(device, None)

    def is_hugetlb(self, mapping: Mapping) -> bool:
        """Return whether a mapping is of hugetlbfs."""
        if not mapping.device or os.major(mapping.device) or self.verdict(mapping):
            return False
        return mapping.device in _kernel_hugetlbfs() or any(
            mount.kind == b"hugetlbfs" and mount.device == mapping.device
            for mount in self._files.mounts
        )

    def hugetlb(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the parts of a span that are of hugetlbfs: start and end."""
        return [
            (max(mapping.start, start), min(mapping.end, end))
            for mapping in within(self.process, start, end, files=True)
            if self.is_hugetlb(mapping)
        ]

    def within(self, start: int, end: int) -> list[tuple[int, int, Mapping]]:
        """Return the parts of a span that are shared memory: start, end, and whose they are."""
        return [
            (max(mapping.start, start), min(mapping.end, end), mapping)
            for mapping in within(self.process, start, end, files=True)
            if self.holds(mapping)
        ]

    # ---- which pages ----

    @contextlib.contextmanager
    def data(self, mapping: Mapping) -> Iterator[Callable[[int], int] | None]:
        """Give a function from an address to the first from there on of which the file has a page.

        In RAM or in swap; None where there is no one to ask.
        """
        with contextlib.closing(self._files.descriptors(mapping)) as descriptors:
            for fd in descriptors:
                if pagecache.file_system(fd) == pagecache.TMPFS_MAGIC:
                    yield functools.partial(_next_data, fd, mapping)
                    return
            yield None

    @staticmethod
    def lost_question(mapping: Mapping) -> str:
        """Return which entries say nothing about a page: those that its file has to answer for.

        A private mapping's own copies have swap entries, and markers, of their own.
        """
        return "not_present" if mapping.shared else "empty"

    def settle(self, mapping: Mapping, start: int, swapped: Mask, lost: Mask) -> None:
        """Look up which of the lost pages are swapped, in the best way there is.

        Parameters
        ----------
        mapping : Mapping
            Whose pages they are.
        start : int
            The address of the first.
        swapped : ndarray of bool
            The pages known to be swapped, by their entries (some kernels have such entries for
            shared memory too); those found swapped are added.
        lost : ndarray of bool
            The pages asked about. Those that stay in it cannot be known.
        """
        lost &= ~swapped
        if not lost.any():
            return
        if not pagecache.swap_in_use() or self._files.is_device(mapping):
            lost.fill(False)
            return
        for fd in self._files.descriptors(mapping):
            if self._settle_by_file(fd, mapping, start, swapped, lost):
                return
        with contextlib.suppress(ProcessLookupError):
            self._settle_by_total(mapping, start, swapped, lost)

    def _settle_by_file(
        self, fd: int, mapping: Mapping, start: int, swapped: Mask, lost: Mask
    ) -> bool:
        """Settle by what the file tells; return whether it told."""
        kind = pagecache.file_system(fd)
        if kind == pagecache.OVERLAYFS_MAGIC:
            return False  # the pages are those of a file in one of its layers
        if kind != pagecache.TMPFS_MAGIC:
            lost.fill(False)
            return True
        page = (mapping.offset + start - mapping.start) // PAGE_SIZE
        for look in (pagecache.by_cachestat, pagecache.by_mincore):
            with contextlib.suppress(OSError):
                look(fd, mapping.path, page, lost.view(np.uint8), swapped.view(np.uint8))
                return True
        return False

    def _settle_by_total(self, mapping: Mapping, start: int, swapped: Mask, lost: Mask) -> None:
        """Settle by smaps, which tells how many are swapped: none of them, or all."""
        total = self._totals.get(mapping)
        if total is None:
            return
        here, own_here = np.empty_like(lost), np.empty_like(lost)
        all_lost, own = self._counted(mapping, start, here, own_here)
        in_file = total // PAGE_SIZE
        if not mapping.shared:
            # its own copies are in the sum too: if they can be told from markers
            if own and not self._types_visible:
                return
            in_file -= own
        if in_file == 0:
            lost.fill(False)
        # smaps counts also what is not asked about: pages under the copies of a private mapping
        # that may not be written, and the whole of a huge entry that the mapping begins within
        elif (
            in_file == all_lost
            and (mapping.shared or mapping.writable)
            and self._uncut(mapping)
            and self._read_totals().get(mapping) == total
        ):
            # What is swapped is lost, whenever it is looked at. As many lost as swapped, while
            # nothing came or went, are the same pages: but only those that were counted.
            here &= lost
            swapped |= here
            lost &= ~here

    def _counted(self, mapping: Mapping, start: int, lost: Mask, swapped: Mask) -> tuple[int, int]:
        """Count a mapping's pages, lost and swapped, and fill the masks of its part at `start`."""
        process, question = self.process, self.lost_question(mapping)
        end = start + len(lost) * PAGE_SIZE
        starts, ends = np.array([[mapping.start, end], [start, mapping.end]], np.uint64)
        counts = np.zeros((2, 2), np.uint64)
        questions = (question, "swapped")
        reading.read_counts(process.pagemap, process.path, starts, ends, questions, counts)
        masks = {question: lost, "swapped": swapped}
        reading.read_masks(process.pagemap, process.path, start, len(lost), masks)
        lost_around, swapped_around = map(int, counts.sum(axis=1))
        return lost_around + int(lost.sum()), swapped_around + int(swapped.sum())

    @functools.cached_property
    def _types_visible(self) -> bool:
        """Whether entries show frame numbers and swap types: seen on a page that is present."""
        for mapping in mappings(self.process):
            words = np.zeros(min(mapping.pages, 64), np.uint64)
            reading.read(self.process.pagemap, self.process.path, mapping.start, words)
            found = words[entry.mask(words, "present")]
            if len(found):
                return bool(entry.decode(found)["pfn"][0])
        return False

    def _uncut(self, mapping: Mapping) -> bool:
        """Return whether no huge page of the file can reach over the edges of a mapping."""
        size = int(_setting("hpage_pmd_size") or PAGE_SIZE)
        first, last = mapping.offset, mapping.offset + mapping.end - mapping.start
        if first % size == 0 and last % size == 0:
            return True
        if mapping.device == _kernel_tmpfs():
            return not _shmem_huge()
        mounts = [m for m in self._files.mounts if m.device == mapping.device]
        return bool(mounts) and not any(b"huge=" in m.options for m in mounts)

    @functools.cached_property
    def _totals(self) -> dict[Mapping, int]:
        return self._read_totals()

    def _read_totals(self) -> dict[Mapping, int]:
        """Return bytes of swap by the mapping they are in, as smaps has them."""
        return {
            mapping: size_of(fields["Swap"])
            for mapping, fields in smaps(self.process, "Swap")
            if "Swap" in fields
        }


def _next_data(fd: int, mapping: Mapping, address: int) -> int:
    """Return the first address from one on that shows data of the file, or the mapping's end."""
    try:
        at = os.lseek(fd, mapping.offset + address - mapping.start, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return mapping.end
    return mapping.start + at // PAGE_SIZE * PAGE_SIZE - mapping.offset


def _shmem_huge() -> bool:
    """Return whether the kernel's own tmpfs may have huge pages."""
    names = [name for name in os.listdir(_THP) if name.startswith("hugepages-")]
    settings = ["shmem_enabled", *(f"{name}/shmem_enabled" for name in names)]
    return any(_HUGE.search(_setting(name)) for name in settings)


def _setting(name: str) -> str:
    """Return a setting of transparent huge pages; empty, if this kernel does not have it."""
    try:
        with open(f"{_THP}/{name}") as file:
            return file.read()
    except FileNotFoundError:
        return ""
