"""Which pages of a Linux process are present, swapped, soft-dirty or shared, page by page."""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

# First of all: a compiled module would fail with an error that explains nothing. A 32-bit process
# cannot count the pages of a 64-bit one.
if sys.platform != "linux":
    raise ImportError(f"fastpagemap needs Linux and its /proc/PID/pagemap: this is {sys.platform}")
if sys.maxsize < 2**32:
    raise ImportError("fastpagemap needs a 64-bit Python: this one has 32 bits")

from .engine.pages import Masks, Pages
from .engine.residency import RESIDENCY_DTYPE
from .engine.resident import resident
from .group import Group
from .model import hooks
from .model.entry import ENTRY_DTYPE, PAGE_DTYPE, PAGE_SIZE, REGION_DTYPE, Category, Flag, decode
from .model.errors import SnapshotError, UnsupportedError
from .model.frame_flags import FOLIO_DTYPE, KPF
from .model.mapping import Mapping
from .model.runs import RUN_DTYPE, State
from .model.span import span
from .pagemap import PageMap
from .process.capabilities import Capabilities, capabilities
from .process.frames import Frames
from .tracking import WriteTracker

__all__ = [
    "ENTRY_DTYPE",
    "FOLIO_DTYPE",
    "KPF",
    "PAGE_DTYPE",
    "PAGE_SIZE",
    "REGION_DTYPE",
    "RESIDENCY_DTYPE",
    "RUN_DTYPE",
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
]

if TYPE_CHECKING:
    from .snapshot.snapshot import Snapshot


def _notebook() -> ModuleType:
    from .report import notebook

    return notebook


def _picture() -> ModuleType:
    from .report import picture

    return picture


# Only this module stands above `report`, so only it may import `report` for lower layers.
hooks.provide(notebook=_notebook, picture=_picture)


def __getattr__(name: str) -> Any:
    # Few programs need these, and importing them takes a third as long again.
    if name == "Snapshot":
        from .snapshot.snapshot import Snapshot

        return Snapshot
    if name == "__version__":
        from importlib.metadata import version

        return version("fastpagemap")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
