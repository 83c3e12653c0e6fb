"""Every call of the core, once or twice, short enough for valgrind.

Valgrind does not know PAGEMAP_SCAN, PROCMAP_QUERY and cachestat: it takes what they write for never
written. So after each such call it can tell of reads and writes beyond an end, not of values.
"""

import contextlib

import _torture  # noqa: F401  # isort: skip
import _core
import numpy as np

import fastpagemap as fpm
import memory

NAMES = ("present", "swapped", "shared", "exclusive", "unknown")


def main():
    """Ask everything of a little memory."""
    with memory.sparse(600) as made, memory.guarded(40) as other, fpm.PageMap() as pm:
        for span in ((made.start, made.end), (other.start, other.end), (other.at(3), other.at(3))):
            pages = pm.read(*span)
            masks = {name: getattr(pm, name)(*span).tolist() for name in NAMES}
            _core.agrees(pages, masks)
            fpm.decode(pages.entries)
            pm.regions(*span)
        chosen = [m for m in pm.mappings() if m.start in (made.start, other.start)]
        pm.usage(chosen)
        pm.states(chosen)
        pm.residency([made.start + 5, other.start], [100_000, 70_000])
        pm.present(made.start, made.end, out=np.zeros(made.pages, bool))
    with contextlib.suppress(fpm.UnsupportedError):  # older valgrinds do not know userfaultfd
        track()
        track_accesses()
    print("valgrind: every call of the core, no complaint")


def track():
    """Ask which pages were written."""
    with memory.touched(50) as own, fpm.WriteTracker(own.start, own.end) as tracker:
        own.write(3, 9)
        assert tracker.written().sum() == 6


def track_accesses():
    """Ask which pages were read."""
    with memory.touched(50) as own, fpm.AccessTracker(own.start, own.end) as tracker:
        own.read(3, 9)
        assert tracker.accessed().sum() == 6


if __name__ == "__main__":
    main()
