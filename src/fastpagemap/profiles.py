"""Write what is in RAM, by call stack, as files that profilers' viewers open.

pprof's format is written with the package protobuf: ``pip install 'fastpagemap[profiles]'``. The
others need nothing.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt

from .report.profile_formats import ENCODERS, FORMATS, SAMPLE_TYPES, Place, Samples
from .report.text import printable
from .snapshot.open_file import Path
from .snapshot.replace_file import replace_file

__all__ = ["FORMATS", "Frame", "Rows", "write"]

Frame: TypeAlias = str | tuple[str, str, int]
"""A function, or a function, its file and a line in it."""
Rows: TypeAlias = npt.NDArray[np.void] | Mapping[str, npt.ArrayLike]
"""Columns by name: a structured array, or a mapping of arrays."""


def write(
    file: Path | IO[bytes],
    stacks: Sequence[Iterable[Frame]],
    rows: Rows,
    *,
    format: str | None = None,
    column: str = "present",
) -> None:
    """Write a profile: how much each call stack has allocated, and how much of it is in RAM.

    Parameters
    ----------
    file : path, or file open for writing bytes
        A path has either the whole profile or its old content, and nobody else may read it.
    stacks : sequence of sequences
        A stack a row, the outermost frame first, as ``traceback`` has them. A frame is a name, or
        a tuple of function, file and line.
    rows : ndarray or mapping
        Its columns ``size``, ``present`` and ``swapped``, in bytes, are written. Of ``PageMap``,
        ``usage`` has all three, and ``residency`` all but ``size``, which the caller knows. Rows
        with the same stack are added up.
    format : {'pprof', 'collapsed', 'speedscope'}, optional
        By default, the end of the file's name decides: ``.pb.gz`` or ``.pprof``; ``.collapsed`` or
        ``.folded``; ``.speedscope.json`` or ``.json``.

        pprof: gzipped, with the sample types of tcmalloc's heap profiles, ``space``,
        ``resident_space`` and ``swapped_space``. ``go tool pprof`` and many others open it.
        collapsed: a line a stack, ``outer (file:line);inner (file:line) BYTES``, as flamegraph.pl
        and others take them. speedscope: a profile a column, for https://www.speedscope.app.
    column : {'present', 'swapped', 'size'}, optional
        What collapsed stacks count, and what the viewers of the others show first.

    Raises
    ------
    ValueError
        A column is missing, lengths differ, a size is negative, a frame is neither a name nor such
        a tuple, or the format is none of these or cannot be told. In pprof's format: a sum is 2**63
        or more, which it cannot hold.
    ModuleNotFoundError
        protobuf is not installed, and the format is pprof.
    OSError
        The file cannot be written; the old content is still there.

    Notes
    -----
    In names, what a terminal could act on is escaped. In collapsed stacks a ``;`` becomes ``:``.

    Examples
    --------
    Each mapping as a stack of its own:

    >>> import io
    >>> import fastpagemap.profiles
    >>> with fpm.PageMap() as pm:
    ...     mappings = pm.mappings()
    ...     rows = pm.usage(mappings)
    >>> stacks = [[mapping.path or "[anon]", mapping.permissions] for mapping in mappings]
    >>> file = io.BytesIO()
    >>> fpm.profiles.write(file, stacks, rows, format="collapsed")
    >>> total = sum(int(line.rpartition(b" ")[2]) for line in file.getvalue().splitlines())
    >>> total == int(rows["present"].sum())
    True
    """
    name = os.fsdecode(file) if isinstance(file, (str, bytes, os.PathLike)) else ""
    encode = ENCODERS[_format(name, format)]
    if column not in SAMPLE_TYPES:
        raise ValueError(f"column {column!r}: one of {', '.join(SAMPLE_TYPES)}")
    content = encode(_samples(stacks, rows), column)
    if isinstance(file, (str, bytes, os.PathLike)):
        with replace_file(name, None) as opened:
            opened.write(content)
    else:
        file.write(content)


def _format(name: str, format: str | None) -> str:
    """Return the format that is asked for, or that a file's name means."""
    if format is None:
        for each, endings in FORMATS.items():
            if name.endswith(endings):
                return each
        known = ", ".join(ending for endings in FORMATS.values() for ending in endings)
        raise ValueError(f"format= is needed where the file's name does not end with {known}")
    if format not in FORMATS:
        raise ValueError(f"format {format!r}: one of {', '.join(FORMATS)}")
    return format


def _samples(stacks: Sequence[Iterable[Frame]], rows: Rows) -> Samples:
    """Return the sums of each stack that has any, in the order of `SAMPLE_TYPES`."""
    names = rows.dtype.names if isinstance(rows, np.ndarray) else rows
    missing = [name for name in SAMPLE_TYPES if name not in (names or ())]
    if missing:
        raise ValueError(f"rows have no column {', '.join(missing)}")
    columns = [np.asarray(rows[name]) for name in SAMPLE_TYPES]
    for name, values in zip(SAMPLE_TYPES, columns, strict=True):
        if values.shape != (len(stacks),):
            raise ValueError(f"{len(stacks)} stacks, but {name!r} is of shape {values.shape}")
        if values.dtype.kind not in "ui" and values.size:
            raise ValueError(f"{name!r} has to be whole numbers of bytes, not {values.dtype}")
        if values.dtype.kind == "i" and (values < 0).any():
            raise ValueError(f"{name!r} has negative sizes")
    found: Samples = {}
    stacks = [_stack(each) for each in stacks]
    places = {frame: _place(frame) for frame in {frame for stack in stacks for frame in stack}}
    for stack, sizes in zip(stacks, zip(*(c.tolist() for c in columns), strict=True), strict=True):
        if any(sizes):
            sums = found.setdefault(tuple(places[frame] for frame in stack), [0] * len(sizes))
            sums[:] = map(sum, zip(sums, sizes, strict=True))
    return found


def _stack(stack: Iterable[Frame]) -> tuple[Frame, ...]:
    if isinstance(stack, str):  # its letters would be frames
        raise ValueError(f"a stack is a sequence of frames, and not {stack[:40]!r}")
    return tuple(stack)


def _place(frame: object) -> Place:
    match frame:
        case str():
            return Place(printable(frame), "", 0)
        case (str(function), str(file), SupportsIndex() as line):
            return Place(printable(function), printable(file), operator.index(line))
    raise ValueError(f"frame {frame!r}: it is a name, or (function, file, line)")
