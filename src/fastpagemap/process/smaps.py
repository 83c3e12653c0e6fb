"""/proc/PID/smaps: the kernel's own sums for each mapping."""

import os
import re
from collections.abc import Iterator

from .._kernel import procmaps
from ..model.mapping import Mapping
from .mappings import parse_line
from .process import Process

__all__ = ["rollup", "size_of", "smaps", "smaps_at"]

Fields = dict[str, bytes]


def smaps(process: Process, *names: str) -> Iterator[tuple[Mapping, Fields]]:
    """Yield each mapping, in address order, with the text of the named fields.

    The text is what follows the colon: ``b"12 kB"``, ``b"rd wr mr"``. A field that this kernel does
    not have is absent. Only what is yielded is kept of the file, which is read meanwhile.

    Raises
    ------
    ProcessLookupError
        At the end, if the process is gone: then what was yielded may be about another program.
    MemoryError
        As ``mappings()`` does.
    """
    wanted = "|".join(map(re.escape, names)).encode()
    # A newline to search for, in place of ^: three times as fast.
    lines = re.compile(rb"\n(?:([0-9a-f]+-[0-9a-f]+ .*)|(%b): *(.*))" % wanted)
    parser = procmaps.Parser(Mapping, os.fsdecode)
    mapping: Mapping | None = None
    fields: Fields = {}
    for text in process.lines("smaps"):
        for line in lines.finditer(b"\n" + text):
            if line[1] is None:
                fields[line[2].decode()] = line[3].strip()
                continue
            if mapping is not None:
                yield mapping, fields
            mapping = parse_line(process, parser, line[1] + b"\n")
            fields = {}
    process.check_alive()
    if mapping is not None:
        yield mapping, fields


def smaps_at(process: Process, address: int, *names: str) -> Fields:
    """Return the fields of the mapping at an address; none if nothing is mapped there."""
    for mapping, fields in smaps(process, *names):
        if mapping.start <= address < mapping.end:
            process.check_alive()
            return fields
    return {}


def rollup(process: Process) -> dict[str, int]:
    """Return the sums of all mappings (Linux 4.14), in bytes: ``{"Rss": 1048576, ...}``."""
    text = process.read_own("smaps_rollup")
    found = re.findall(rb"^(\w+): +(\d+ kB)$", text, re.MULTILINE)
    return {name.decode(): size_of(size) for name, size in found}


def size_of(text: bytes) -> int:
    """Return the size in bytes that a field's text gives: ``b"12 kB"`` is 12288."""
    number, unit = text.split()
    if unit != b"kB":
        raise ValueError(f"a size in kB is needed, not {text!r}")
    return int(number) * 1024
