"""Which pages of a Linux process are present, swapped, soft-dirty or shared, page by page.

The kernel answers in /proc/PID/pagemap, but not completely: it does not show which pages of shared
memory are swapped. fastpagemap finds that out, too. It fills numpy arrays with the answer, for this
process or any other.

>>> import numpy as np
>>> import fastpagemap as fpm
>>> array = np.ones(100_000)
>>> fpm.resident(array)  # how many of its 800,000 bytes are in RAM
800000
>>> with fpm.PageMap() as pm:  # PageMap(pid): another process
...     present = pm.present(array)  # one bool a page
...     usage = pm.usage()  # one row a mapping, in bytes
>>> bool(present.all()), int(usage["present"].sum()) > array.nbytes
(True, True)

Where to look
-------------
an object of this process
    ``resident``: how many of its bytes are in RAM. ``span``: the start and the end of its pages.
    Methods that take a start and an end also take the object itself.
pages
    ``PageMap`` has masks, with one bool a page: ``present``, ``swapped``, ``shared``,
    ``exclusive``, ``soft_dirty``, ``zero``, ``huge``, ``cached``, ``unknown``; ``masks`` has
    several at once. ``states`` (flags of ``State``) and ``regions`` (the kernel's ``Category``)
    are runs of pages. ``read`` gives the kernel's entries, and ``decode`` takes them apart.
mappings and allocations
    ``PageMap.mappings``, ``usage`` and ``residency``, in bytes. ``to_pandas``, ``to_polars`` and
    ``to_arrow`` turn such rows into tables; ``usage(fields=...)`` adds a ``path`` and a ``kind``.
    ``fastpagemap.profiles`` writes sums by call stack, for pprof and flame graphs.
physical memory
    ``PageMap.mapcounts``, ``nodes``, ``folios``, and ``Frames``; mostly for root.
several processes
    ``usage_of``: one row a process. ``Group``: memory that they share counts once.
changes over time
    ``WriteTracker``: which pages this process writes. ``AccessTracker``: which it reads or writes.
    ``PageMap.clear_soft_dirty``, then ``soft_dirty``: which pages another process writes.
    ``PageMap.snapshot``: a ``Snapshot`` to keep, save, load, plot, and compare with a later one
    (``diff``).
this kernel and this user
    ``capabilities``: what can be answered here. All else raises ``UnsupportedError``; no answer is
    silently empty.

Sizes are in bytes. Masks have one element for each page of ``PAGE_SIZE`` bytes. Looking at memory
never changes it. The examples in these pages begin with the two imports above.

``fastpagemap --help`` has the same on a terminal.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

# First of all: a compiled module would fail with an error that explains nothing. A 32-bit process
# cannot count the pages of a 64-bit one.
if sys.platform != "linux":
    raise ImportError(f"fastpagemap needs Linux and its /proc/PID/pagemap: this is {sys.platform}")
if sys.maxsize < 2**32:
    raise ImportError("fastpagemap needs a 64-bit Python: this one has 32 bits")

# At once, as every answer needs it: later a program may have little memory left, and Ctrl-C may be
# lost while numpy is imported.
import numpy  # noqa: F401

from .model import hooks

__all__ = [
    "ENTRY_DTYPE",
    "FOLIO_DTYPE",
    "KPF",
    "PAGE_DTYPE",
    "PAGE_SIZE",
    "REGION_DTYPE",
    "RESIDENCY_DTYPE",
    "RUN_DTYPE",
    "AccessTracker",
    "Capabilities",
    "Category",
    "Flag",
    "Frames",
    "Group",
    "Mapping",
    "Masks",
    "PageMap",
    "Pages",
    "Snapshot",
    "SnapshotError",
    "State",
    "UnsupportedError",
    "WriteTracker",
    "capabilities",
    "decode",
    "resident",
    "span",
    "to_arrow",
    "to_pandas",
    "to_polars",
    "usage_of",
]

if TYPE_CHECKING:
    from .engine.pages import Masks, Pages
    from .engine.residency import RESIDENCY_DTYPE
    from .engine.resident import resident
    from .group import Group
    from .model.entry import (
        ENTRY_DTYPE,
        PAGE_DTYPE,
        PAGE_SIZE,
        REGION_DTYPE,
        Category,
        Flag,
        decode,
    )
    from .model.errors import SnapshotError, UnsupportedError
    from .model.frame_flags import FOLIO_DTYPE, KPF
    from .model.mapping import Mapping
    from .model.runs import RUN_DTYPE, State
    from .model.span import span
    from .pagemap import PageMap
    from .process.capabilities import Capabilities, capabilities
    from .process.frames import Frames
    from .processes import usage_of
    from .snapshot.dataframes import to_arrow, to_pandas, to_polars
    from .snapshot.snapshot import Snapshot
    from .tracking import AccessTracker, WriteTracker

#: Where each public name is. It is imported when it is first used: all of them would take half as
#: long as numpy does.
_HOMES = {
    "Masks": "engine.pages",
    "Pages": "engine.pages",
    "RESIDENCY_DTYPE": "engine.residency",
    "resident": "engine.resident",
    "Group": "group",
    "ENTRY_DTYPE": "model.entry",
    "PAGE_DTYPE": "model.entry",
    "PAGE_SIZE": "model.entry",
    "REGION_DTYPE": "model.entry",
    "Category": "model.entry",
    "Flag": "model.entry",
    "decode": "model.entry",
    "SnapshotError": "model.errors",
    "UnsupportedError": "model.errors",
    "FOLIO_DTYPE": "model.frame_flags",
    "KPF": "model.frame_flags",
    "Mapping": "model.mapping",
    "RUN_DTYPE": "model.runs",
    "State": "model.runs",
    "span": "model.span",
    "PageMap": "pagemap",
    "Capabilities": "process.capabilities",
    "capabilities": "process.capabilities",
    "Frames": "process.frames",
    "usage_of": "processes",
    "to_arrow": "snapshot.dataframes",
    "to_pandas": "snapshot.dataframes",
    "to_polars": "snapshot.dataframes",
    "Snapshot": "snapshot.snapshot",
    "AccessTracker": "tracking",
    "WriteTracker": "tracking",
}


def _notebook() -> ModuleType:
    from .report import notebook

    return notebook


def _picture() -> ModuleType:
    from .report import picture

    return picture


# Only this module stands above `report`, so only it may import `report` for lower layers.
hooks.provide(notebook=_notebook, picture=_picture)


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    elif name == "__version__":
        from importlib.metadata import version

        value = version("fastpagemap")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # it is asked for once
    return value
