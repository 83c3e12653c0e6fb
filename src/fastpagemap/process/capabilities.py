"""What this kernel can answer, and what this user may ask."""

import dataclasses
import os
from collections.abc import Iterable
from typing import Any

from .._kernel import pagecache, procmaps, uffd
from .._kernel.failures import is_refusal
from ..model import hooks
from ..model.entry import PAGE_SIZE, Category
from ..model.mapping import Mapping
from .frame_probes import frames_readable, page_mapcounts, sees_pfns
from .mappings import mappings
from .probes import probed_anew, soft_dirty
from .process import Process, open_process

__all__ = ["Capabilities", "capabilities", "capabilities_of"]

_NEEDS = {
    "soft_dirty": "CONFIG_MEM_SOFT_DIRTY, which not every architecture has",
    "scan": "Linux 6.7, and no sandbox that forbids it",
    "procmap_query": "Linux 6.11, and no sandbox that forbids it",
    "cachestat": "Linux 6.5, and no sandbox that forbids it; without it a page of shared memory "
    "that is swapped out, but still has a copy in the swap cache, is taken for not swapped",
    "pfn": "CAP_SYS_ADMIN when the PageMap is made",
    "map_files": "CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE; without it files of shared memory are "
    "looked for among descriptors and by path",
    "userfaultfd_wp_async": "Linux 6.7, and userfaultfd not forbidden",
    "userfaultfd_rwp_async": "Linux 7.3, CONFIG_USERFAULTFD_RWP, and userfaultfd not forbidden",
    "frames": "root or CAP_DAC_READ_SEARCH, and a /proc that has kpageflags and kpagecount",
    "page_mapcounts": "a kernel without CONFIG_NO_PAGE_MAPCOUNT; with it, a page of a large folio "
    "has the average of all of its pages for its count",
}


@dataclasses.dataclass(frozen=True)
class Capabilities:
    """What the kernel can answer about a process, and what this user may ask.

    ``print`` shows a table that says what each missing capability needs.

    Attributes
    ----------
    page_size : int
        Bytes per page.
    soft_dirty : bool
        Whether the kernel keeps soft-dirty bits: probed by a write, not read from a configuration.
    scan : bool
        Whether the kernel has PAGEMAP_SCAN.
    categories : Category
        The categories that PAGEMAP_SCAN accepts; without SOFT_DIRTY if the kernel keeps no such
        bits.
    procmap_query : bool
        Whether the kernel looks up single mappings (PROCMAP_QUERY).
    cachestat : bool
        Whether swapped shared memory is found exactly, swap cache included.
    pfn : bool
        Whether this user sees frame numbers and swap locations.
    map_files : bool or None
        Whether this user can open mapped files through the mapping; None if no file is mapped.
    userfaultfd_wp_async : bool
        Whether this process may track its own writes: to anonymous memory, to shared memory mapped
        MAP_SHARED, and to hugetlb. ``WriteTracker`` says what changes them unnoticed.
    userfaultfd_rwp_async : bool
        Whether this process may track its own accesses, of reading too (``AccessTracker``).
    frames : bool
        Whether this user can read what the kernel says of page frames (``Frames``).
    page_mapcounts : bool or None
        Whether the kernel counts how often each page of a large folio is mapped. If not
        (CONFIG_NO_PAGE_MAPCOUNT, Linux 6.15), ``mapcounts`` gives the folio's average, and
        ``exclusive``, ``pss`` and ``uss`` are estimates. None if that could not be found out:
        since Linux 6.15 it is tried on a huge page of this process, which takes frame numbers.

    Examples
    --------
    >>> print(fpm.capabilities())  # doctest: +ELLIPSIS
    page_size ...
    soft_dirty ...
    """

    page_size: int
    soft_dirty: bool
    scan: bool
    categories: Category
    procmap_query: bool
    cachestat: bool
    pfn: bool
    map_files: bool | None
    userfaultfd_wp_async: bool
    userfaultfd_rwp_async: bool = False
    frames: bool = False
    page_mapcounts: bool | None = None

    def __str__(self) -> str:
        return "\n".join(f"{name:<21} {text}" for name, text in self._described().items())

    def _repr_html_(self) -> str:
        """Return the table that ``print`` shows, for notebooks."""
        html: str = hooks.load("notebook").of_capabilities(self._described())
        return html

    def _described(self) -> dict[str, str]:
        names = [field.name for field in dataclasses.fields(self)]
        return {name: _described(name, getattr(self, name)) for name in names}


def _described(name: str, value: bool | int | Category | None) -> str:
    """Return the text of one value in the table."""
    if isinstance(value, Category):
        return " ".join(str(category.name) for category in value) or "none"
    if value is False:
        return f"no: needs {_NEEDS[name]}"
    if value is None:
        return "unknown"
    return "yes" if value is True else str(value)


def capabilities(process: Any = None) -> Capabilities:
    """Find out what the kernel can answer about a process, and what this user may ask.

    Parameters
    ----------
    process : int or object, optional
        As for ``PageMap``; this process by default.

    Returns
    -------
    Capabilities

    Raises
    ------
    ProcessLookupError, PermissionError, ValueError, TypeError
        As ``PageMap`` does.

    Notes
    -----
    The kernel is probed once, the permissions of this user at each call. Nothing is cleared or
    changed, so no one's tracking is disturbed.

    Examples
    --------
    >>> fpm.capabilities().page_size == fpm.PAGE_SIZE
    True
    """
    held = open_process(process)
    return capabilities_of(held, mappings(held))


def capabilities_of(process: Process, current: Iterable[Mapping]) -> Capabilities:
    """Return the capabilities for a process that is held open, given its current mappings."""
    # A sandbox may have forbidden scans since they were probed.
    accepted = probed_anew()
    features = uffd.features()
    return Capabilities(
        page_size=PAGE_SIZE,
        soft_dirty=soft_dirty(),
        scan=bool(accepted),
        categories=accepted,
        procmap_query=_procmap_query(process),
        cachestat=pagecache.has_cachestat(),
        pfn=sees_pfns(),
        map_files=_map_files(process, current),
        userfaultfd_wp_async=bool(features & uffd.WP_ASYNC),
        userfaultfd_rwp_async=bool(features & uffd.RWP_ASYNC),
        frames=frames_readable(),
        page_mapcounts=page_mapcounts(),
    )


def _procmap_query(process: Process) -> bool:
    try:
        procmaps.query(process.maps, process.path, 0, 1, False, Mapping, os.fsdecode)
    except OSError as error:
        if not is_refusal(error):
            raise
        return False
    return True


def _map_files(process: Process, current: Iterable[Mapping]) -> bool | None:
    for mapping in current:
        if mapping.inode:
            name = f"map_files/{mapping.start:x}-{mapping.end:x}"
            try:
                process.open(name, os.O_PATH)
            except PermissionError:
                return False
            except FileNotFoundError:  # unmapped meanwhile
                continue
            return True
    return None
