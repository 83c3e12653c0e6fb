"""Snapshots as files.

A file is a zip archive (deflate) of ``.npy`` arrays, as ``numpy.load`` reads them, without pickles:

=============  ===========  =======================================================================
member         dtype        what
=============  ===========  =======================================================================
``metadata``   u1           a JSON object, in UTF-8: ``format`` ("fastpagemap snapshot"),
                            ``version``, ``pid``, ``name``, ``command``, ``time``, ``kernel``,
                            ``machine``, ``page_size``, ``soft_dirty``, ``capabilities``
``mappings``   structured   a row a mapping: ``start``, ``end``, ``offset``, ``device``, ``inode``
                            (u8, little-endian), ``permissions`` (S4)
``paths``      u1           their paths in bytes, each followed by a NUL
``gaps``       u1, 2, 4, 8  a run's distance from the end of the one before, in pages
``lengths``    u1, 2, 4, 8  its length in pages
``states``     u2           its ``State``
=============  ===========  =======================================================================

Bytes that are no UTF-8 are surrogates (surrogateescape) in JSON strings. A reader takes the versions
up to its own.
"""

import dataclasses
import io
import json
import math
import re
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from .capabilities import Capabilities
from .entry import Category
from .errors import SnapshotError
from .mapping import Mapping
from .runs import RUN_DTYPE, Runs, State, runs_of
from .span import affordable

__all__ = ["VERSION", "decoded", "encoded"]

FORMAT, VERSION = "fastpagemap snapshot", 1
MEMBERS = ("metadata", "mappings", "paths", "gaps", "lengths", "states")
MAPPING_DTYPE = np.dtype(
    [(name, "<u8") for name in ("start", "end", "offset", "device", "inode")]
    + [("permissions", "S4")]
)
# Far above what any process has: 256 GiB of every second page, and vm.max_map_count times 64.
MOST_BYTES, MOST_RUNS, MOST_MAPPINGS, MOST_TEXT = 1 << 28, 1 << 26, 1 << 22, 1 << 20
_COUNTS = tuple(np.dtype(f"<u{size}") for size in (1, 2, 4, 8))
_BYTES = (np.dtype("u1"),)
#: what each member may be, and how many elements at most
_ALLOWED = {
    "metadata": (_BYTES, MOST_TEXT),
    "mappings": ((MAPPING_DTYPE,), MOST_MAPPINGS),
    "paths": (_BYTES, MOST_BYTES),
    "gaps": (_COUNTS, MOST_RUNS),
    "lengths": (_COUNTS, MOST_RUNS),
    "states": ((np.dtype("<u2"),), MOST_RUNS),
}
_PERMISSIONS = re.compile(r"[r-][w-][x-][sp]|\?{4}")
_PLAIN = re.compile(r"[ -~]{0,256}")
# all that the libraries raise on what is no such file
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    RecursionError,
    ValueError,
    OverflowError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    SyntaxError,
)

Fields = dict[str, Any]


# ---- writing -----------------------------------------------------------------------------------


def encoded(fields: Fields) -> bytes:
    """Return the content of a file, of the attributes of a snapshot."""
    fields = dict(fields)
    spans: list[Mapping] = fields.pop("mappings")
    runs: Runs = fields.pop("states")
    fields["capabilities"] = _plain(fields["capabilities"])
    metadata = json.dumps({"format": FORMAT, "version": VERSION, **fields}, allow_nan=False)
    page = np.uint64(fields["page_size"])
    ends = np.concatenate((np.zeros(1, np.uint64), runs["end"][:-1]))[: len(runs)]
    arrays = {
        "metadata": np.frombuffer(metadata.encode(), np.uint8),
        "mappings": np.array(
            [(m.start, m.end, m.offset, m.device, m.inode, m.permissions) for m in spans],
            MAPPING_DTYPE,
        ),
        "paths": np.frombuffer(b"".join(_raw(m.path) + b"\0" for m in spans), np.uint8),
        "gaps": _smallest((runs["start"] - ends) // page),
        "lengths": _smallest((runs["end"] - runs["start"]) // page),
        "states": runs["state"].astype("<u2"),
    }
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _plain(capabilities: Capabilities) -> Fields:
    fields = dataclasses.asdict(capabilities)
    return fields | {"categories": [category.name for category in capabilities.categories]}


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _smallest(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
    """Return numbers in the least dtype they fit into, little-endian."""
    most = int(numbers.max()) if len(numbers) else 0
    return numbers.astype(np.min_scalar_type(most).newbyteorder("<"))


# ---- reading -----------------------------------------------------------------------------------


def decoded(content: bytes) -> Fields:
    """Return the attributes of a snapshot; SnapshotError for whatever is not one, and checked."""
    try:
        return _decoded(content)
    except SnapshotError:
        raise
    except _BROKEN as error:
        raise SnapshotError(
            f"a damaged snapshot ({error}): get it once more from where it came from"
        ) from error


def _decoded(content: bytes) -> Fields:
    _check_archive(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        fields = _metadata(_array(archive, infos, "metadata").tobytes())
        _need(tuple(infos) == MEMBERS, f"members {', '.join(infos)}")
        _need(all(info.file_size < MOST_BYTES * 4 for info in infos.values()), "its size")
        arrays = {name: _array(archive, infos, name) for name in MEMBERS[1:]}
    page = fields["page_size"]
    fields["mappings"] = _mappings(arrays["mappings"], arrays["paths"].tobytes(), page)
    fields["states"] = _runs(arrays, page)
    _check_runs(fields["states"], arrays["mappings"], fields["soft_dirty"])
    return fields


def _need(good: bool, what: str) -> None:
    if not good:
        raise SnapshotError(
            f"a damaged or forged snapshot ({what}): get it once more from where it came from"
        )


def _check_archive(content: bytes) -> None:
    """Look at the end of the archive before anyone believes it."""
    if not content.startswith(b"PK"):
        raise SnapshotError(
            "no snapshot: it does not begin as one does. Entries saved from /proc/PID/pagemap are "
            "read by Snapshot.from_entries"
        )
    if len(content) > MOST_BYTES:
        raise SnapshotError(f"no snapshot: larger than {MOST_BYTES >> 20} MiB")
    end = content[-22:]
    _need(len(end) == 22 and end.startswith(b"PK\5\6"), "its end is missing: it was cut short")
    *_, entries, size, _offset, comment = struct.unpack("<4s4H2LH", end)
    _need(entries <= 64 and size < 1 << 16 and not comment, "its directory")
    _need(not content[-42:].startswith(b"PK\6\7"), "its directory")


def _array(
    archive: zipfile.ZipFile, infos: dict[str, zipfile.ZipInfo], name: str
) -> npt.NDArray[Any]:
    """Return a member, whose header says nothing that is not allowed."""
    _need(name in infos, f"{name} is missing")
    dtypes, most = _ALLOWED[name]
    with archive.open(infos[name]) as file:
        version = np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
        _need(version == (1, 0), f"{name}: npy version {version}")
        header = np.lib.format.read_array_header_1_0(file)  # type: ignore[no-untyped-call]
        shape, _, dtype = header
        _need(dtype in dtypes and len(shape) == 1, f"{name}: {dtype} {shape}")
        _need(0 <= shape[0] <= most, f"{name}: {shape[0]} elements")
        affordable(shape[0], 4 * max(dtype.itemsize, 8))
        size = shape[0] * dtype.itemsize
        raw = file.read(size + 1)
    _need(len(raw) == size, f"{name}: {len(raw)} bytes of {size}")
    return np.frombuffer(raw, dtype)


def _metadata(text: bytes) -> Fields:
    fields = json.loads(text.decode("utf-8"), parse_constant=float)
    _need(isinstance(fields, dict) and fields.pop("format", None) == FORMAT, "its format")
    version = fields.pop("version", None)
    _need(type(version) is int and version > 0, f"version {version!r}")
    if version > VERSION:
        raise SnapshotError(
            f"a snapshot of version {version}; this fastpagemap reads up to version {VERSION}: "
            "install a newer one"
        )
    _check_metadata(fields)
    told = fields["capabilities"]
    names = [field.name for field in dataclasses.fields(Capabilities)]
    _need(isinstance(told, dict) and sorted(told) == sorted(names), "capabilities")
    categories = Category(0)
    for name in told.pop("categories"):
        categories |= Category[name]
    for name, value in told.items():
        good = value == fields["page_size"] if name == "page_size" else value in (True, False, None)
        _need(good, f"capabilities: {name} {value!r}"[:99])
    fields["capabilities"] = Capabilities(categories=categories, **told)
    return fields


def _check_metadata(fields: Fields) -> None:
    def text(value: Any) -> bool:
        return isinstance(value, str) and b"\0" not in _raw(value)

    def plain(value: Any) -> bool:
        return isinstance(value, str) and bool(_PLAIN.fullmatch(value))

    def power(value: Any) -> bool:
        return type(value) is int and 512 <= value <= 1 << 30 and not value & (value - 1)

    rules = {
        "pid": lambda value: type(value) is int and 0 <= value < 1 << 31,
        "name": text,
        "command": lambda value: value is None or text(value),
        "time": lambda v: type(v) in (int, float) and math.isfinite(v) and abs(v) < 1e12,
        "kernel": plain,
        "machine": plain,
        "page_size": power,
        "soft_dirty": lambda value: type(value) is bool,
        "capabilities": lambda value: type(value) is dict,
    }
    _need(fields.keys() == rules.keys(), f"metadata {', '.join(map(repr, fields))}"[:199])
    for name, good in rules.items():
        _need(good(fields[name]), f"{name} {fields[name]!r}"[:99])
    fields["time"] = float(fields["time"])


def _mappings(rows: npt.NDArray[np.void], raw: bytes, page: int) -> list[Mapping]:
    """Return the mappings, in order and apart, with their paths."""
    starts, ends = rows["start"], rows["end"]
    aligned = not ((starts | ends) % np.uint64(page)).any()
    _need(aligned and bool((starts < ends).all()), "mappings: their addresses")
    _need(bool((starts[1:] >= ends[:-1]).all()), "mappings: their order")
    paths = raw.decode("utf-8", "surrogateescape").split("\0")
    _need(paths.pop() == "" and len(paths) == len(rows), f"{len(paths)} paths for {len(rows)}")
    permissions = [value.decode("ascii") for value in rows["permissions"].tolist()]
    _need(all(map(_PERMISSIONS.fullmatch, permissions)), "mappings: their permissions")
    columns = [rows[name].tolist() for name in ("start", "end", "offset", "device", "inode")]
    start, end, offset, device, inode = columns
    return list(map(Mapping, start, end, permissions, offset, device, inode, paths))


def _runs(arrays: dict[str, npt.NDArray[Any]], page: int) -> Runs:
    """Return the runs, by their gaps and lengths."""
    gaps, lengths, states = (arrays[name] for name in ("gaps", "lengths", "states"))
    _need(len(gaps) == len(lengths) == len(states), "runs: their number")
    pages = gaps.sum(dtype=np.float64) + lengths.sum(dtype=np.float64)
    _need(pages * page < 2.0**64 - 2.0**12, "runs: their addresses")
    if not len(gaps):
        return np.empty(0, RUN_DTYPE)
    ends = np.cumsum(gaps, dtype=np.uint64) + np.cumsum(lengths, dtype=np.uint64)
    starts = ends - lengths
    return runs_of(starts * np.uint64(page), ends * np.uint64(page), states)


def _check_runs(runs: Runs, rows: npt.NDArray[np.void], soft_dirty: bool) -> None:
    """Check that each run lies in a mapping, and is in a state that a page can be in."""
    if not len(runs):
        return
    _need(bool((runs["start"] < runs["end"]).all()), "runs: empty ones")
    at = np.searchsorted(rows["start"], runs["start"], "right") - 1
    inside = (at >= 0) & (runs["end"] <= rows["end"][at]) if len(rows) else np.zeros(1, bool)
    _need(bool(inside.all()), "runs outside every mapping")
    touching = (runs["start"][1:] == runs["end"][:-1]) & (at[1:] == at[:-1])
    same = runs["state"][1:] == runs["state"][:-1]
    _need(not (touching & same).any(), "runs that are not joined")
    _need(bool(np.isin(runs["state"], _possible()).all()), "runs: their states")
    dirty = not soft_dirty and (runs["state"] & State.SOFT_DIRTY).any()
    _need(not dirty, "runs that are soft-dirty on a kernel that knows of no such")


def _possible() -> npt.NDArray[np.uint64]:
    """Return all states that a page can be in."""
    states = np.arange(1, 2 * int(State.SWAPPED_SHARED), dtype=np.uint64)

    def having(state: State) -> npt.NDArray[np.bool_]:
        return (states & state) != 0

    absent = ~having(State.PRESENT)
    wrong = absent & having(State.SHARED | State.EXCLUSIVE | State.HUGE | State.ZERO)
    wrong |= ~absent & having(State.SWAPPED | State.UNKNOWN | State.GUARD)
    wrong |= having(State.SWAPPED_SHARED) & ~having(State.SWAPPED)
    wrong |= having(State.SWAPPED) & having(State.UNKNOWN)
    return states[~wrong]
