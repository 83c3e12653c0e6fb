"""The swapped pages of whole files of shared memory, as runs.

A process may map terabytes of a file of a few pages, many times. So each part of a file is searched
once, and what is not there costs nothing.
"""

import numpy as np

from .._kernel import swapped_runs
from .._kernel.descriptor import Descriptor
from .._kernel.failures import tells_of_file
from ..model.entry import PAGE_SIZE, REGION_DTYPE
from ..model.mapping import Mapping
from ..model.runs import Addresses, Spans
from ..process.files import Files
from ..process.opening import look

__all__ = ["FileRuns", "search_runs"]

# No file has more pages. A mapping that mremap moved or grew may reach beyond that.
_MAX_PAGES = ((1 << 63) - 1) // PAGE_SIZE
_NONE = np.empty(0, np.uint64)

# The first and the end page of what was searched, and the runs found there.
_Searched = tuple[int, int, Spans]


class FileRuns:
    """Finds the swapped parts of mappings in the files behind them.

    It caches what it finds: make a new one for each public call, because that goes stale.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._searched: dict[tuple[object, ...], _Searched] = {}

    def swapped(self, mapping: Mapping, start: int, end: int) -> Spans | None:
        """Return the spans of a part of a mapping that are swapped out of its file.

        Return None if no file can be asked.
        """
        shift = mapping.offset - mapping.start
        first, last = (min(at // PAGE_SIZE, _MAX_PAGES) for at in (start + shift, end + shift))
        for file in self._files.descriptors(mapping):
            found = self._search(file, mapping, first, last)
            if found is not None:
                lows, highs = _cut(found, first, last)
                return _addresses(lows, first, start), _addresses(highs, first, start)
        return None

    def _search(self, file: Descriptor, mapping: Mapping, first: int, last: int) -> Spans | None:
        """Return the runs of swapped pages of a file, at least those from `first` to `last`."""
        about = look(file)
        # The time, too: the kernel numbers its own files anew after 2**32 of them.
        key = (about.device, about.inode, about.changed, mapping.path)
        known = self._searched.get(key)
        if known is None or known[0] > last or known[1] < first:
            known = first, first, (_NONE, _NONE)
        low, high, runs = known
        for part in ((first, low), (high, last)):
            if part[0] < part[1]:
                more = search_runs(file.fd, mapping.path, *part)
                if more is None:
                    return None
                before, after = (more, runs) if part[1] == low else (runs, more)
                runs = _joined(before, after)
        self._searched[key] = min(low, first), max(high, last), runs
        return runs


def search_runs(fd: int, path: str, first: int, last: int) -> Spans | None:
    """Return the runs of swapped pages of a part of a file; None if the kernel does not tell."""
    for exact in (True, False):
        try:
            found = swapped_runs.search(fd, path, first, last, exact)
        except OSError as error:
            if not tells_of_file(error):
                raise
            continue
        runs = np.frombuffer(found, REGION_DTYPE)
        return np.ascontiguousarray(runs["start"]), np.ascontiguousarray(runs["end"])
    return None


def _joined(before: Spans, after: Spans) -> Spans:
    return np.concatenate([before[0], after[0]]), np.concatenate([before[1], after[1]])


def _addresses(pages: Addresses, first: int, start: int) -> Addresses:
    """Return the addresses of pages of a file, if page `first` is mapped at `start`."""
    return (pages - np.uint64(first)) * np.uint64(PAGE_SIZE) + np.uint64(start)


def _cut(runs: Spans, first: int, last: int) -> Spans:
    """Return the parts of sorted runs within `first` to `last`."""
    starts, ends = runs
    low, high = np.searchsorted(ends, first, "right"), np.searchsorted(starts, last)
    return np.maximum(starts[low:high], np.uint64(first)), np.minimum(
        ends[low:high], np.uint64(last)
    )
