"""Mappings as saved from /proc/PID/maps or smaps, maybe by a stranger."""

import os
import re
from collections.abc import Iterable
from typing import Any

from .._kernel.procmaps import parse_maps
from ..model.entry import PAGE_SIZE
from ..model.mapping import Mapping
from ..model.runs import bounds, runs_of
from ..process.limits import affordable
from .checks import MAPPING_BYTES, Contradiction, check_addresses
from .open_file import opened, read_up_to

__all__ = ["saved_mappings"]

# Ten times the text of as many mappings as the kernel allows by default.
_MAX_BYTES = 1 << 26
_LINE = re.compile(
    rb"[0-9a-f]{1,16}-[0-9a-f]{1,16} [r-][w-][x-][sp] [0-9a-f]{1,16} "
    rb"[0-9a-f]{1,8}:[0-9a-f]{1,8} [0-9]{1,20}(?: [^\0\n]*)?"
)
# smaps has such lines below each line of maps.
_MORE = re.compile(rb"[A-Z]\w*:.*")


def saved_mappings(source: Any) -> list[Mapping]:
    """Return the mappings that a path or a file has as text, or that an iterable yields.

    Raises
    ------
    ValueError
        The text is not that of maps or smaps, or the mappings are no mappings of such pages.
    OSError
        It cannot be read.
    """
    with opened(source) as given:
        if hasattr(given, "read"):
            found = _parsed(read_up_to(given, _MAX_BYTES))
        else:
            found = _checked(given)
    if not found:
        raise ValueError("it holds no mappings: not saved from /proc/PID/maps, or of no process")
    return found


def _parsed(text: bytes) -> list[Mapping]:
    """Return the mappings that a text describes as /proc/PID/maps or smaps do."""
    if len(text) > _MAX_BYTES:
        raise ValueError(f"more than {_MAX_BYTES >> 20} MiB: not saved from /proc/PID/maps")
    affordable(text.count(b"\n"), MAPPING_BYTES, "mappings")
    some = []
    for number, line in enumerate(text.split(b"\n"), 1):
        if _LINE.fullmatch(line):
            some.append(line + b"\n")
        elif line and not _MORE.fullmatch(line):
            raise ValueError(f"line {number} is not one of /proc/PID/maps: {line[:60]!r}")
    return _checked(
        # How maps shows a newline. A name may have these characters, too, but hardly any does.
        mapping._replace(path=mapping.path.replace("\\012", "\n"))
        for mapping in parse_maps(b"".join(some), Mapping, os.fsdecode)
    )


def _checked(mappings: Iterable[Mapping]) -> list[Mapping]:
    """Return mappings, if they are of whole pages, sorted and disjoint."""
    found = list(mappings)
    try:
        check_addresses(runs_of(*bounds(found), 0), PAGE_SIZE)
    except (Contradiction, OverflowError) as error:
        raise ValueError(f"no mappings of pages of {PAGE_SIZE} bytes: {error}") from None
    return found
