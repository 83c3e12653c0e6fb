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
``gaps``       u1, 2, 4, 8  a run's distance from the end of the one before, in pages
``lengths``    u1, 2, 4, 8  its length in pages
``states``     u2           its ``State``
=============  ===========  =======================================================================

Bytes that are no UTF-8 are surrogates in JSON strings (surrogateescape). A reader takes all
versions up to its own, and no newer one.
"""

import dataclasses
import io
import json
import re
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from ..model.errors import SnapshotError
from ..model.mapping import Mapping
from ..model.runs import Runs
from ..process.capabilities import Capabilities
from ..process.limits import affordable
from .checks import fields_of, mappings_of, need, runs_from

__all__ = ["VERSION", "decoded", "encoded"]

FORMAT, VERSION = "fastpagemap snapshot", 1
MAPPING_DTYPE = np.dtype(
    [(name, "<u8") for name in ("start", "end", "offset", "device", "inode")]
    + [("permissions", "S4")]
)
# Far above what any process has: 256 GiB of which every second page is there, 64 times as many
# mappings as the kernel allows by default.
MOST_BYTES, MOST_RUNS, MOST_MAPPINGS, MOST_TEXT = 1 << 28, 1 << 26, 1 << 22, 1 << 20
# what each member may be, and how many elements at most
_NUMBERS = tuple(np.dtype(f"<u{size}") for size in (1, 2, 4, 8))
_ALLOWED = {
    "metadata": (_NUMBERS[:1], MOST_TEXT),
    "mappings": ((MAPPING_DTYPE,), MOST_MAPPINGS),
    "paths": (_NUMBERS[:1], MOST_BYTES),
    "gaps": (_NUMBERS, MOST_RUNS),
    "lengths": (_NUMBERS, MOST_RUNS),
    "states": (_NUMBERS[1:2], MOST_RUNS),
}
_HEADER = re.compile(rb"\{'descr': (.+), 'fortran_order': False, 'shape': \((\d{1,10}),\), \} *\n")
# all that zipfile and json raise on what is none of theirs
_BROKEN = (
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
    # Level 1 takes a fifth of the default level's time, for files that are 3 to 14 % larger.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, (1, 0), allow_pickle=False)
            archive.writestr(f"{name}.npy", member.getvalue())
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
    if not isinstance(content, bytes):
        raise TypeError(f"{type(content).__name__} in place of bytes: open the file as binary")
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
        need(infos.keys() == _ALLOWED.keys(), f"members {', '.join(map(repr, infos))}"[:199])
        need(len(archive.infolist()) == len(infos), "members twice")
        arrays = {name: _array(archive, infos, name) for name in list(_ALLOWED)[1:]}
    rows = arrays["mappings"]
    fields["mappings"] = mappings_of(rows, arrays["paths"].tobytes(), fields["page_size"])
    fields["states"] = runs_from(arrays, rows, fields)
    return fields


def _check_archive(content: bytes) -> None:
    """Look at the end of the archive before anyone believes it."""
    if not content.startswith(b"PK"):
        raise SnapshotError(
            f"no snapshot: it is {'empty' if not content else 'another kind of file'}. Entries "
            "saved from /proc/PID/pagemap are read by Snapshot.from_entries"
        )
    if len(content) > MOST_BYTES:
        raise SnapshotError(f"no snapshot: larger than {MOST_BYTES >> 20} MiB")
    end = content[-22:]
    need(len(end) == 22 and end.startswith(b"PK\5\6"), "its end is missing: it was cut short")
    *_, entries, size, _offset, comment = struct.unpack("<4s4H2LH", end)
    small = entries <= 64 and size < 1 << 16 and not comment
    need(small and not content[-42:].startswith(b"PK\6\7"), "its directory")


def _array(
    archive: zipfile.ZipFile, infos: dict[str, zipfile.ZipInfo], name: str
) -> npt.NDArray[Any]:
    """Return a member, read only if its header says what is allowed: no dtype is evaluated."""
    need(name in infos, f"{name} is missing")
    info, (dtypes, most) = infos[name], _ALLOWED[name]
    packed = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    need(packed and not info.flag_bits & 1, f"{name}: how it is packed")
    with archive.open(info) as file:
        lead = file.read(10)
        need(lead[:8] == b"\x93NUMPY\1\0" and len(lead) == 10, f"{name} is no array")
        header = file.read(int.from_bytes(lead[8:], "little"))
        found = _HEADER.fullmatch(header)
        need(found is not None, f"{name}: its header")
        assert found is not None
        by_name = {_described(dtype): dtype for dtype in dtypes}
        need(found[1] in by_name, f"{name}: of {found[1]!r}"[:99])
        dtype, count = by_name[found[1]], int(found[2])
        need(count <= most, f"{name}: {count} elements")
        size = count * dtype.itemsize
        need(info.file_size == len(lead) + len(header) + size, f"{name}: its size")
        try:
            affordable(count, dtype.itemsize + 40)
        except MemoryError as error:
            raise SnapshotError(f"too large a snapshot for this machine now: {error}") from None
        return np.frombuffer(_whole(file.read(size + 1), size, name), dtype)


def _whole(raw: bytes, size: int, name: str) -> bytes:
    need(len(raw) == size, f"{name}: {len(raw)} bytes of {size}")
    return raw


def _described(dtype: np.dtype[Any]) -> bytes:
    """Return how the header of an array of a dtype names it."""
    return repr(dtype.descr if dtype.names else dtype.str).encode()


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
    return fields_of(metadata)
