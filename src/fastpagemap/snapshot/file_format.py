"""Snapshots as files.

A file is a zip archive (deflate) of ``.npy`` arrays, as ``numpy.load`` reads them, without pickles:

=============  ===========  =======================================================================
member         dtype        what
=============  ===========  =======================================================================
``metadata``   u1           a JSON object, in UTF-8: ``format`` ("fastpagemap snapshot"),
                            ``version``, ``pid``, ``name``, ``command``, ``time``, ``kernel``,
                            ``machine``, ``page_size``, ``soft_dirty``, ``capabilities``, ``uid``
``mappings``   structured   a row a mapping: ``start``, ``end``, ``offset``, ``device``, ``inode``
                            (u8, little-endian), ``permissions`` (S4)
``paths``      u1           their paths in bytes, each followed by a NUL
``gaps``       u1, 2, 4, 8  a run's distance from the end of the previous one, in pages
``lengths``    u1, 2, 4, 8  its length in pages
``states``     u2           its ``State``
=============  ===========  =======================================================================

Bytes that are not UTF-8 are surrogates in JSON strings (surrogateescape). A reader accepts every
version up to its own.

A file from a stranger cannot take much more memory than its own size: what it unpacks to is known
from its headers, and may be FREE_BYTES and MAX_RATIO times the file. Regular memory could be packed
smaller than that: then the writer leaves some members as they are.
"""

import dataclasses
import json
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from ..model.errors import SnapshotError
from ..model.mapping import Mapping
from ..model.runs import RUN_DTYPE, Runs
from ..process.capabilities import Capabilities
from ..process.limits import affordable
from .archive import MAX_BYTES, PIECE, Archive, pack
from .checks import (
    MAPPING_BYTES,
    Contradiction,
    check_addresses,
    check_permissions,
    need,
    parse_mappings,
    parse_metadata,
)
from .packed_runs import Placer

__all__ = ["MAX_BYTES", "VERSION", "decode", "encode"]

FORMAT, VERSION = "fastpagemap snapshot", 1
MAPPING_DTYPE = np.dtype(
    [(name, "<u8") for name in ("start", "end", "offset", "device", "inode")]
    + [("permissions", "S4")]
)
# Limits far above any process's needs: the runs of 256 GiB with every second page present, and 64
# times the kernel's default limit of mappings.
MAX_RUNS, MAX_MAPPINGS, MAX_TEXT = 1 << 26, 1 << 22, 1 << 18
# What a file may take in memory without having the size for it, and what it may take for each byte.
FREE_BYTES, MAX_RATIO = 1 << 25, 64
# Bytes in memory of a character of a path.
_CHAR_BYTES = 4
# The dtypes that each member may have, and its maximum number of elements.
_UNSIGNED = tuple(np.dtype(f"<u{size}") for size in (1, 2, 4, 8))
_MEMBERS = {
    "metadata": (_UNSIGNED[:1], MAX_TEXT),
    "mappings": ((MAPPING_DTYPE,), MAX_MAPPINGS),
    "paths": (_UNSIGNED[:1], MAX_BYTES),
    "gaps": (_UNSIGNED, MAX_RUNS),
    "lengths": (_UNSIGNED, MAX_RUNS),
    "states": (_UNSIGNED[1:2], MAX_RUNS),
}
# Z_MEM_ERROR, of which zlib has no exception of its own.
_ZLIB_MEM_ERROR = "Error -4 "
# What zipfile and json raise for input that they cannot parse.
_PARSE_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RecursionError,
    OSError,
    ValueError,
    OverflowError,
    IndexError,
)

Fields = dict[str, Any]


def _cost(runs: int, mappings: int, path_bytes: int) -> int:
    """Return how many bytes of memory a snapshot takes, at most."""
    return runs * RUN_DTYPE.itemsize + mappings * MAPPING_BYTES + path_bytes * _CHAR_BYTES


# ---- writing -----------------------------------------------------------------------------------


def encode(fields: Fields) -> bytes:
    """Return the content of the file for the attributes of a snapshot.

    Raises
    ------
    SnapshotError
        `decode` would not take it: it is too large, or contradicts itself.
    """
    try:
        return _encode(fields)
    except (Contradiction, UnicodeEncodeError) as error:
        raise SnapshotError(f"it is not saved, as it could not be loaded: {error}") from None


def _encode(fields: Fields) -> bytes:
    fields = dict(fields)
    spans: list[Mapping] = fields.pop("mappings")
    runs: Runs = fields.pop("states")
    fields["capabilities"] = _jsonable(fields["capabilities"])
    need(len(runs) <= MAX_RUNS, f"{len(runs)} runs of pages, at most {MAX_RUNS}")
    need(len(spans) <= MAX_MAPPINGS, f"{len(spans)} mappings, at most {MAX_MAPPINGS}")
    metadata = json.dumps({"format": FORMAT, "version": VERSION, **fields}, allow_nan=False)
    _metadata(metadata.encode())
    rows, paths = _rows_and_paths(spans, fields["page_size"])
    packed = _pack_runs(runs, fields["page_size"], fields["soft_dirty"], rows)
    arrays = {
        "metadata": np.frombuffer(metadata.encode(), np.uint8),
        "mappings": rows,
        "paths": np.frombuffer(paths, np.uint8),
        **packed,
    }
    return _packed(arrays, _cost(len(runs), len(spans), len(paths)))


def _rows_and_paths(spans: list[Mapping], page_size: int) -> tuple[npt.NDArray[np.void], bytes]:
    """Return mappings as an array, and their paths, each followed by a NUL."""
    columns = list(zip(*spans, strict=True)) or [()] * len(Mapping._fields)
    by_name = dict(zip(Mapping._fields, columns, strict=True))
    rows = np.empty(len(spans), MAPPING_DTYPE)
    for name in MAPPING_DTYPE.names or ():
        rows[name] = by_name[name]
    check_addresses(rows, page_size)
    check_permissions(by_name["permissions"])
    size = sum(map(len, by_name["path"])) + len(spans)  # in characters: before they are joined
    need(size <= MAX_BYTES, f"{size >> 20} MiB of paths, at most {MAX_BYTES >> 20}")
    paths = b"".join(_encode_text(path) + b"\0" for path in by_name["path"])
    need(len(paths) <= MAX_BYTES and paths.count(0) == len(spans), "its paths")
    return rows, paths


def _pack_runs(
    runs: Runs, page_size: int, soft_dirty: bool, rows: npt.NDArray[np.void]
) -> dict[str, npt.NDArray[Any]]:
    """Return the gaps, lengths and states of runs, checked as they will be when they are read."""
    page = np.uint64(page_size)
    ends = np.concatenate((np.zeros(1, np.uint64), runs["end"][:-1]))[: len(runs)]
    gaps, lengths = (
        _narrow((runs["start"] - ends) // page),
        _narrow((runs["end"] - runs["start"]) // page),
    )
    states = runs["state"].astype("<u2")
    placer = Placer(page_size)
    for at in range(0, len(runs), PIECE):
        some = slice(at, at + PIECE)
        starts, ends = placer.place(gaps[some], lengths[some], states[some])
        same = (starts == runs["start"][some]) & (ends == runs["end"][some])
        need(bool((same & (states[some] == runs["state"][some])).all()), "runs: their addresses")
    placer.check(runs, rows, soft_dirty)
    return {"gaps": gaps, "lengths": lengths, "states": states}


def _packed(arrays: dict[str, npt.NDArray[Any]], cost: int) -> bytes:
    """Pack arrays into a file that is not too small for what it takes in memory."""
    content = pack(arrays, frozenset())
    if cost > FREE_BYTES + MAX_RATIO * len(content):
        narrowest = min(("gaps", "lengths", "states"), key=lambda name: arrays[name].itemsize)
        content = pack(arrays, frozenset({"mappings", "paths", narrowest}))
    need(len(content) <= MAX_BYTES, f"a file of {len(content) >> 20} MiB")
    return content


def _jsonable(capabilities: Capabilities) -> Fields:
    fields = dataclasses.asdict(capabilities)
    return fields | {"categories": [category.name for category in capabilities.categories]}


def _encode_text(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _narrow(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
    """Return numbers in the smallest unsigned dtype that holds them, little-endian."""
    most = int(numbers.max()) if len(numbers) else 0
    return numbers.astype(np.min_scalar_type(most).newbyteorder("<"))


# ---- reading -----------------------------------------------------------------------------------


def decode(content: bytes) -> Fields:
    """Return the attributes of a snapshot, checked; SnapshotError for any other content."""
    try:
        return _decode(content)
    except (Contradiction, UnicodeEncodeError) as error:
        raise SnapshotError(
            f"a damaged or forged snapshot ({error}): get it once more from where it came from"
        ) from None
    except SnapshotError:
        raise
    except _PARSE_ERRORS as error:
        if isinstance(error, zlib.error) and str(error).startswith(_ZLIB_MEM_ERROR):
            raise MemoryError(str(error)) from None
        raise SnapshotError(
            f"a damaged snapshot ({error}): get it once more from where it came from"
        ) from error


def _decode(content: bytes) -> Fields:
    archive = Archive(content)
    archive.look("metadata", *_MEMBERS["metadata"])
    fields = _metadata(archive.array("metadata").tobytes())
    names = archive.names
    need(set(names) == _MEMBERS.keys(), f"members {', '.join(map(repr, names))}"[:199])
    counts = {name: archive.look(name, *_MEMBERS[name]) for name in list(_MEMBERS)[1:]}
    need(counts["gaps"] == counts["lengths"] == counts["states"], "runs: their number")
    _check_cost(_cost(counts["gaps"], counts["mappings"], counts["paths"]), len(content))
    rows = archive.array("mappings")
    paths = archive.array("paths").tobytes()
    fields["mappings"] = parse_mappings(rows, paths, fields["page_size"])
    fields["states"] = _read_runs(archive, counts["gaps"], rows, fields)
    return fields


def _check_cost(cost: int, size: int) -> None:
    """Check how much memory a file would take, before it does."""
    need(cost <= FREE_BYTES + MAX_RATIO * size, f"{cost >> 20} MiB, packed into {size} bytes")
    try:
        affordable(2 * cost, 1)
    except MemoryError as error:
        raise SnapshotError(f"too large a snapshot for this machine now: {error}") from None


def _read_runs(archive: Archive, count: int, rows: npt.NDArray[np.void], fields: Fields) -> Runs:
    """Unpack the runs into the one array that stays."""
    runs, at = np.empty(count, RUN_DTYPE), 0
    placer = Placer(fields["page_size"])
    columns = map(archive.pieces, ("gaps", "lengths", "states"))
    for gaps, lengths, states in zip(*columns, strict=True):
        some = runs[at : at + len(states)]
        some["start"], some["end"] = placer.place(gaps, lengths, states)
        some["state"] = states
        at += len(states)
    placer.check(runs, rows, fields["soft_dirty"])
    return runs


def _metadata(text: bytes) -> Fields:
    metadata = json.loads(text.decode("utf-8"))
    good = isinstance(metadata, dict) and metadata.pop("format", None) == FORMAT
    need(good, "its metadata")
    version = metadata.pop("version", None)
    need(type(version) is int and version > 0, f"version {version!r}"[:99])
    if version > VERSION:
        raise SnapshotError(
            f"a snapshot of version {version}; this fastpagemap reads version {VERSION}: "
            "a newer fastpagemap is needed"
        )
    return parse_metadata(metadata)
