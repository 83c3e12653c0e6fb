"""The checks of a snapshot's file: it may come from a stranger."""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..model.entry import Category
from ..model.mapping import KERNEL_HALF, Mapping
from ..process.capabilities import Capabilities

__all__ = [
    "MAPPING_BYTES",
    "Contradiction",
    "check_addresses",
    "check_permissions",
    "need",
    "parse_mappings",
    "parse_metadata",
]

MAPPING_BYTES = 400
"""Of a mapping in memory, without its path."""

_PERMISSIONS = re.compile(r"[r-][w-][x-][sp]|\?{4}")
# Characters of a name or a command line: `take` keeps 16 KiB of the latter.
_MAX_TEXT = 1 << 14
# What older files do not have.
_SINCE = {"frames": False, "page_mapcounts": None, "userfaultfd_rwp_async": False}
_MAY_BE_UNKNOWN = ("map_files", "page_mapcounts")
_SHORT_ASCII = re.compile(r"[ -~]{0,256}")


class Contradiction(ValueError):
    """What is wrong with a snapshot."""


def need(good: bool, what: str) -> None:
    """Raise Contradiction, naming what is wrong, unless `good`."""
    if not good:
        raise Contradiction(what)


# ---- metadata ----------------------------------------------------------------------------------


def parse_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a snapshot that its metadata gives."""
    metadata.setdefault("uid", None)  # older files have no uid
    need(metadata.keys() == _RULES.keys(), f"metadata {', '.join(map(repr, metadata))}"[:199])
    for name, good in _RULES.items():
        need(good(metadata[name]), f"{name} {metadata[name]!r}"[:99])
    found = _SINCE | metadata["capabilities"]
    need(found.keys() == _CAPABILITIES, f"capabilities {', '.join(map(repr, found))}"[:199])
    names = found.pop("categories")
    known = isinstance(names, list) and all(
        isinstance(name, str) and name in Category.__members__ for name in names
    )
    need(known, f"categories {names!r}"[:99])
    categories = Category(0)
    for name in names:
        categories |= Category[name]
    need(found.pop("page_size") == metadata["page_size"], "two page sizes")
    for name, value in found.items():
        known = type(value) is bool or (value is None and name in _MAY_BE_UNKNOWN)
        need(known, f"capabilities: {name} {value!r}"[:99])
    capabilities = Capabilities(page_size=metadata["page_size"], categories=categories, **found)
    return {**metadata, "time": float(metadata["time"]), "capabilities": capabilities}


def _is_text(value: Any) -> bool:
    """Return whether it is text as os.fsdecode gives it for a file name: without NUL."""
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        return False
    return b"\0" not in value.encode("utf-8", "surrogateescape")


def _is_short_ascii(value: Any) -> bool:
    return isinstance(value, str) and _SHORT_ASCII.fullmatch(value) is not None


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 <= value < 1e11


def _is_page_size(value: Any) -> bool:
    return type(value) is int and 1 << 12 <= value <= 1 << 20 and not value & (value - 1)


_CAPABILITIES = {field.name for field in dataclasses.fields(Capabilities)}
_RULES: dict[str, Callable[[Any], bool]] = {
    "pid": lambda value: type(value) is int and 0 <= value < 1 << 31,
    "name": _is_text,
    "command": lambda value: value is None or _is_text(value),
    "time": _is_time,
    "kernel": _is_short_ascii,
    "machine": _is_short_ascii,
    "page_size": _is_page_size,
    "soft_dirty": lambda value: type(value) is bool,
    "capabilities": lambda value: type(value) is dict,
    "uid": lambda value: value is None or (type(value) is int and 0 <= value < 1 << 32),
}


# ---- mappings ----------------------------------------------------------------------------------


def check_addresses(rows: npt.NDArray[np.void], page: int) -> None:
    """Check that mappings are whole pages, sorted and disjoint."""
    starts, ends = rows["start"], rows["end"]
    aligned = not ((starts | ends) % np.uint64(page)).any()
    need(aligned and bool((starts < ends).all()), "mappings: their addresses")
    need(bool((starts[1:] >= ends[:-1]).all()), "mappings: their order")
    half = np.uint64(KERNEL_HALF)
    need(not ((starts < half) & (ends > half)).any(), "mappings: half of one is the kernel's")


def check_permissions(permissions: Iterable[str]) -> None:
    """Check that permissions are such as in maps, or not known."""
    need(all(map(_PERMISSIONS.fullmatch, set(permissions))), "mappings: their permissions")


def parse_mappings(rows: npt.NDArray[np.void], raw: bytes, page: int) -> list[Mapping]:
    """Return the mappings with their paths; they must be sorted and disjoint."""
    check_addresses(rows, page)
    # Counted before they are split: a list of so many would take far more memory.
    count = raw.count(0)
    need(count == len(rows) and raw[-1:] in (b"", b"\0"), f"{count} paths for {len(rows)}")
    paths = _texts(raw.split(b"\0")[:-1])
    permissions = _texts(rows["permissions"].tolist())
    check_permissions(permissions)
    columns = [rows[name].tolist() for name in ("start", "end", "offset", "device", "inode")]
    start, end, offset, device, inode = columns
    return list(map(Mapping, start, end, permissions, offset, device, inode, paths))


def _texts(raw: list[bytes]) -> list[str]:
    """Decode names; equal ones become one object, as many mappings have the same."""
    known = {name: name.decode("utf-8", "surrogateescape") for name in set(raw)}
    return [known[name] for name in raw]
