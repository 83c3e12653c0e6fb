"""Which pages of a Linux process are present, swapped, soft-dirty or shared, page by page."""

from .capabilities import Capabilities, capabilities
from .entry import ENTRY_DTYPE, PAGE_DTYPE, PAGE_SIZE, REGION_DTYPE, Category, Flag, decode
from .errors import SnapshotError, UnsupportedError
from .mapping import Mapping
from .pagemap import PageMap
from .pages import Masks, Pages
from .residency import RESIDENCY_DTYPE
from .runs import RUN_DTYPE, State
from .snapshot import Snapshot
from .span import span
from .tracking import WriteTracker

__all__ = [
    "ENTRY_DTYPE",
    "PAGE_DTYPE",
    "PAGE_SIZE",
    "REGION_DTYPE",
    "RESIDENCY_DTYPE",
    "RUN_DTYPE",
    "Capabilities",
    "Category",
    "Flag",
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
    "span",
]


def __getattr__(name: str) -> str:
    # looking the version up costs more than all the rest of the import
    if name == "__version__":
        from importlib.metadata import version

        return version("fastpagemap")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
