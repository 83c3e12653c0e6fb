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
from .checks import need, parse_mappings, parse_metadata, parse_runs

__all__ = ["VERSION", "decode", "encode"]

FORMAT, VERSION = "fastpagemap snapshot", 1
MAPPING_DTYPE = np.dtype(
    [(name, "<u8") for name in ("start", "end", "offset", "device", "inode")]
    + [("permissions", "S4")]
)
# Limits far above any process's needs: the runs of 256 GiB with every second page present, and 64
# times the kernel's default limit of mappings.
MAX_BYTES, MAX_RUNS, MAX_MAPPINGS, MAX_TEXT = 1 << 28, 1 << 26, 1 << 22, 1 << 20
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
_HEADER = re.compile(rb"\{'descr': (.+), 'fortran_order': False, 'shape': \((\d{1,10}),\), \} *\n")
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


# ---- writing -----------------------------------------------------------------------------------


def encode(fields: Fields) -> bytes:
    """Return the content of the file for the attributes of a snapshot."""
    fields = dict(fields)
    spans: list[Mapping] = fields.pop("mappings")
    runs: Runs = fields.pop("states")
    fields["capabilities"] = _jsonable(fields["capabilities"])
    metadata = json.dumps({"format": FORMAT, "version": VERSION, **fields}, allow_nan=False)
    page = np.uint64(fields["page_size"])
    ends = np.concatenate((np.zeros(1, np.uint64), runs["end"][:-1]))[: len(runs)]
    arrays = {
        "metadata": np.frombuffer(metadata.encode(), np.uint8),
        "mappings": np.array(
            [(m.start, m.end, m.offset, m.device, m.inode, m.permissions) for m in spans],
            MAPPING_DTYPE,
        ),
        "paths": np.frombuffer(b"".join(_encode_text(m.path) + b"\0" for m in spans), np.uint8),
        "gaps": _narrow((runs["start"] - ends) // page),
        "lengths": _narrow((runs["end"] - runs["start"]) // page),
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
    if not isinstance(content, bytes):
        raise TypeError(f"{type(content).__name__} in place of bytes: open the file as binary")
    try:
        return _decode(content)
    except SnapshotError:
        raise
    except _PARSE_ERRORS as error:
        raise SnapshotError(
            f"a damaged snapshot ({error}): get it once more from where it came from"
        ) from error


def _decode(content: bytes) -> Fields:
    _check_archive(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        fields = _metadata(_read_member(archive, infos, "metadata").tobytes())
        need(infos.keys() == _MEMBERS.keys(), f"members {', '.join(map(repr, infos))}"[:199])
        need(len(archive.infolist()) == len(infos), "members twice")
        arrays = {name: _read_member(archive, infos, name) for name in list(_MEMBERS)[1:]}
    rows = arrays["mappings"]
    fields["mappings"] = parse_mappings(rows, arrays["paths"].tobytes(), fields["page_size"])
    fields["states"] = parse_runs(arrays, rows, fields)
    return fields


def _check_archive(content: bytes) -> None:
    """Check the end of the archive, which zipfile would trust."""
    if not content.startswith(b"PK"):
        raise SnapshotError(
            f"no snapshot: it is {'empty' if not content else 'another kind of file'}. Entries "
            "saved from /proc/PID/pagemap are read by Snapshot.from_entries"
        )
    if len(content) > MAX_BYTES:
        raise SnapshotError(f"no snapshot: larger than {MAX_BYTES >> 20} MiB")
    end = content[-22:]
    need(len(end) == 22 and end.startswith(b"PK\5\6"), "its end is missing: it was cut short")
    *_, entries, size, _offset, comment = struct.unpack("<4s4H2LH", end)
    small = entries <= 64 and size < 1 << 16 and not comment
    need(small and not content[-42:].startswith(b"PK\6\7"), "its directory")


def _read_member(
    archive: zipfile.ZipFile, infos: dict[str, zipfile.ZipInfo], name: str
) -> npt.NDArray[Any]:
    """Return a member, read only if its header is allowed; no dtype is evaluated."""
    need(name in infos, f"{name} is missing")
    info, (dtypes, most) = infos[name], _MEMBERS[name]
    packed = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    need(packed and not info.flag_bits & 1, f"{name}: how it is packed")
    with archive.open(info) as file:
        lead = file.read(10)
        need(lead[:8] == b"\x93NUMPY\1\0" and len(lead) == 10, f"{name} is no array")
        header = file.read(int.from_bytes(lead[8:], "little"))
        found = _HEADER.fullmatch(header)
        need(found is not None, f"{name}: its header")
        assert found is not None
        by_name = {_dtype_in_header(dtype): dtype for dtype in dtypes}
        need(found[1] in by_name, f"{name}: of {found[1]!r}"[:99])
        dtype, count = by_name[found[1]], int(found[2])
        need(count <= most, f"{name}: {count} elements")
        size = count * dtype.itemsize
        need(info.file_size == len(lead) + len(header) + size, f"{name}: its size")
        try:
            affordable(count, dtype.itemsize + 40)
        except MemoryError as error:
            raise SnapshotError(f"too large a snapshot for this machine now: {error}") from None
        return np.frombuffer(_check_size(file.read(size + 1), size, name), dtype)


def _check_size(raw: bytes, size: int, name: str) -> bytes:
    need(len(raw) == size, f"{name}: {len(raw)} bytes of {size}")
    return raw


def _dtype_in_header(dtype: np.dtype[Any]) -> bytes:
    """Return a dtype as the header of a .npy file names it."""
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
    return parse_metadata(metadata)
