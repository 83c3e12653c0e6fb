"""Print docs/tracking.md, with what this kernel tells: ``make tracking`` writes it (root).

What other kernels tell is taken from the page as it is. So the page is made on one after the other;
``make test-kernels RUN=docs/tracking.py`` prints it on those.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from outcomes import KINDS, REFUSES, outcome, tracks
from ways import WAYS

PAGE = Path(__file__).with_suffix(".md")
#: The kernels whose outcomes are on the page.
KERNELS = ["6.12", "6.18", "7.3"]
NONE = "n/a"

Outcomes = dict[str, dict[str, str]]
"""By way and kind."""

HEAD = """# What a WriteTracker tells

Many things change memory: stores, system calls, other processes. This page says which of them
`WriteTracker.written()` reports. `make tracking` (docs/tracking.py) makes it: it does each thing to
each kind of memory, and compares what `written()` reports with the content before and after. Do not
edit it. A test does the same on every kernel that it runs on (tests/test_tracking_ways.py).

| in the table | |
| --- | --- |
| told | each page whose content has changed is reported |
| told, as all | all pages of the file are reported: only its time of modification shows it |
| told, or all if read since | emptied pages are reported; all are, if those are read first |
| told, unless read since | emptied pages are reported, but not if they are read before the answer |
| told, though equal | pages are reported, although their content has not changed |
| **not told** | the content changes, and nothing is reported |
| equal | the content stays as it was, and nothing is reported |
| tracking ends | other memory is there now; this answer and all later ones raise OSError (EFAULT) |
| **never returns** | the kernel loops until another thread calls `close()`, or until SIGKILL |
| refused | such memory cannot be tracked: `UnsupportedError` |
| n/a | this cannot be done to such memory |

Each thing was done alone, without a store between two answers, and to whole pages. A store also
changes the file's time of modification. So after a store, the time no longer shows other changes:
they are not reported. Emptied pages explain a change of the time, too. If a hole, or the new end of
the file, cuts a page beside them, that page is not reported. On Linux 6.12, but not on 6.18, the
time stays the same for a tick of the clock (1 to 10 ms): a change so soon after one that was
reported is not reported. Nor is one after which the time is set back, as `cp -p` does.

A page of shared hugetlb that was not present before (never used through this mapping, or after
MADV_DONTNEED) is not reported when it is emptied.

Someone else may protect pages again before the answer: any userfaultfd of this process, by
UFFDIO_WRITEPROTECT, or whoever scans its pagemap with PM_SCAN_WP_MATCHING, also another process.
What was written to these pages before is not reported. The kernel does not say that it happened.

The tracker must open a file to read its time. Root and processes with CAP_CHECKPOINT_RESTORE always
can. Others need a descriptor in this process, or the file's path. Shared anonymous memory and SysV
segments have neither, so others are not told of `MADV_REMOVE` there. Nor is anybody where a filter
of system calls refuses `statx`.

Two kinds of memory are refused on every kernel. Files on disks, mapped shared or private: once a
protected page has left the page cache, the kernel would loop for ever in `mlock(2)`. And private
mappings of shared memory: what `MADV_DONTNEED` takes away would not be reported.

The table shows Linux 7.3. If 6.12 or 6.18 differs, its version stands before what it does.
"""


def main() -> None:
    """Print the page."""
    print("\n".join(page(merged(parsed(PAGE.read_text() if PAGE.exists() else ""), here()))))


def kernel() -> str:
    """Return the version of this kernel, as the page names it."""
    found = re.match(r"\d+\.\d+", os.uname().release)
    return found[0] if found else ""


def here() -> Outcomes:
    """Find out what this kernel tells."""
    tracked = {kind: tracks(make) for kind, make in KINDS.items()}
    return {
        way: {
            kind: (outcome(make, way) or NONE) if tracked[kind] else REFUSES
            for kind, make in KINDS.items()
        }
        for way in WAYS
    }


def parsed(text: str) -> dict[str, Outcomes]:
    """Return the outcomes that stand on the page, by kernel."""
    found: dict[str, Outcomes] = {name: {} for name in KERNELS}
    kinds: list[str] = []
    for line in text.partition("\n## ")[2].splitlines():
        first, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        if first == "what happens":
            kinds = cells
        elif first in WAYS:
            for name in KERNELS:
                row = {k: told(cell, name) for k, cell in zip(kinds, cells, strict=True)}
                found[name].setdefault(first, {}).update(row)
    return found


def told(cell: str, name: str) -> str:
    """Return what a cell says of a kernel."""
    common, *others = cell.split("; ")
    return next((o.partition(": ")[2] for o in others if o.startswith(f"{name}: ")), common)


def merged(before: dict[str, Outcomes], now: Outcomes) -> dict[str, Outcomes]:
    """Return all outcomes, with those of this kernel as they are now."""
    return {name: now if name == kernel() else found or now for name, found in before.items()}


def page(found: dict[str, Outcomes]) -> Iterator[str]:
    """Yield the lines of the page."""
    yield from HEAD.splitlines()
    kinds = list(KINDS)
    half = kinds.index("shared anonymous")
    titles = {"Own memory, and hugetlb": kinds[:half], "Shared memory": kinds[half:]}
    for title, some in titles.items():
        yield from ("", f"## {title}", "")
        yield f"| what happens | {' | '.join(some)} |"
        yield f"| --- |{' --- |' * len(some)}"
        for way in WAYS:
            cells = (cell([found[name][way][kind] for name in KERNELS]) for kind in some)
            yield f"| {way} | {' | '.join(cells)} |"


def cell(outcomes: list[str]) -> str:
    """Return what a cell says of all kernels: of the newest, and of others that differ."""
    newest = outcomes[-1]
    others = zip(KERNELS, outcomes, strict=True)
    return "; ".join([newest, *(f"{name}: {each}" for name, each in others if each != newest)])


if __name__ == "__main__":
    main()
