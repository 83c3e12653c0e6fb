"""Snapshots, and files of snapshots, by chance: good ones, odd ones, damaged and forged ones."""

import dataclasses
import io
import json
import struct
import zipfile

import numpy as np

import fastpagemap as fpm
from fastpagemap import Mapping
from fastpagemap.snapshot import file_format
from snapshots import npy, whole

PAGE = fpm.PAGE_SIZE
NUMBERS = [
    0,
    1,
    2,
    7,
    255,
    256,
    511,
    4096,
    65535,
    1 << 31,
    (1 << 32) - 1,
    1 << 47,
    1 << 51,
    1 << 52,
]
NUMBERS += [1 << 53, (1 << 63) - 1, 1 << 63, (1 << 64) - PAGE, (1 << 64) - 1]
NAMES = ["", "[heap]", "/lib/x.so (deleted)", "/\udcff", "/\x1b[2J\n", "/" + "d" * 5000, "漢" * 300]
NAMES += ["/a\0b", "\ud800", "'=1"]
VALUES = [None, True, -1, 1.5, 1e308, float("nan"), 1 << 70, "", "x" * 300, "\ud800", "a\0", [], {}]
VALUES += [[[]] * 1000, {"a": {"b": []}}, "\x1b[2J", "$x$", 4096, 8192, ["PRESENT"], ["NO"]]


# ---- snapshots ---------------------------------------------------------------------------------


def consistent(chance):
    """A snapshot such as could be taken."""
    spans, rows, at = [], [], 0
    for _ in range(chance.choice([0, 1, 5, 200])):
        at += chance.choice([0, 1, 3, 1 << 20])
        size = chance.choice([1, 2, 9, 1 << 18])
        name = chance.choice(NAMES[:7])
        rights = chance.choice(["rw-p", "r-xp", "---p", "rw-s", "????"])
        spans.append(
            Mapping(at * PAGE, (at + size) * PAGE, rights, 0, chance.choice([0, 8]), 5, name)
        )
        last, place = 0, at
        while place < at + size and chance.random() < 0.8:
            length = min(chance.choice([1, 1, 2, 5]), at + size - place)
            state = chance.choice([s for s in (1, 2, 4, 9, 17, 256, 514) if s != last])
            rows.append((place * PAGE, (place + length) * PAGE, state))
            last, place = state, place + length
        at += size
    states = np.array(rows, fpm.RUN_DTYPE)
    return dataclasses.replace(whole(), mappings=spans, states=states, soft_dirty=True)


def contradicting(chance):
    """A snapshot with something wrong in it, perhaps."""
    made = consistent(chance)
    states, spans = made.states.copy(), list(made.mappings)
    for _ in range(chance.randrange(1, 4)):
        if len(states):
            name = chance.choice(["start", "end", "state"])
            states[name][chance.randrange(len(states))] = chance.choice(NUMBERS)
        if spans and chance.random() < 0.5:
            row = chance.randrange(len(spans))
            name = chance.choice(["start", "end", "permissions", "path"])
            value = chance.choice({"permissions": ["rw", ""], "path": NAMES}.get(name, NUMBERS))
            spans[row] = spans[row]._replace(**{name: value})
    return dataclasses.replace(made, mappings=spans, states=states)


# ---- files -------------------------------------------------------------------------------------


def members_of(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def archived(chance, members):
    """A file of members, its checksums right."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, value in members.items():
            archive.writestr(name, value, chance.choice([0, 8, 8, 8]))
    return file.getvalue()


def damaged(chance, content):
    """Some bytes are changed, left out or put in."""
    found = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 8])):
        at = chance.randrange(len(found) + 1)
        how = chance.randrange(5)
        if how == 0:
            found[at : at + 1] = chance.randbytes(1)
        elif how == 1:
            found[at : at + chance.randrange(20)] = b""
        elif how == 2:
            found[at:at] = chance.randbytes(chance.randrange(20))
        elif how == 3:
            number = chance.choice(NUMBERS)
            found[at : at + 4] = struct.pack("<L", number & 0xFFFFFFFF)
        else:
            source = chance.randrange(len(found) + 1)
            found[at : at + 30] = found[source : source + 30]
    return bytes(found[: chance.choice([None, None, None, chance.randrange(len(found) + 1)])])


def with_other_records(chance, content):
    """The records of the archive say something else: sizes, offsets, flags, methods."""
    found = bytearray(content)
    for mark, fields in (
        (b"PK\1\2", (8, 10, 20, 24, 28, 30, 32, 42)),
        (b"PK\3\4", (6, 8, 18, 22, 26, 28)),
    ):
        places = [at for at in range(len(found) - 46) if found[at : at + 4] == mark]
        for at in chance.sample(places, min(len(places), chance.randrange(3))):
            place = at + chance.choice(fields)
            number = chance.choice([*NUMBERS, len(found), chance.randrange(len(found))])
            found[place : place + 4] = struct.pack("<L", number & 0xFFFFFFFF)
    if chance.random() < 0.3:  # the end: how many, how large, where, a comment
        place = len(found) - 22 + chance.choice([4, 8, 10, 12, 16, 20])
        found[place : place + 4] = struct.pack("<L", chance.choice(NUMBERS) & 0xFFFFFFFF)
    return bytes(found)


def with_other_members(chance, content):
    """The bytes of members are changed before they are packed."""
    members = members_of(content)
    for name in chance.sample(sorted(members), chance.randrange(1, 3)):
        value = members[name]
        how = chance.randrange(4)
        if how == 0:
            value = damaged(chance, value)
        elif how == 1:  # a number
            at = chance.randrange(64, len(value) + 1) // 8 * 8
            value = value[:at] + struct.pack("<Q", chance.choice(NUMBERS)) + value[at + 8 :]
        elif how == 2:
            value = odd_array(chance)
        else:
            members.pop(name)
            name = chance.choice([name, "other.npy", "/metadata.npy", "../x", "gaps.npy"])
        members[name] = value
    return archived(chance, members)


def odd_array(chance):
    """An array that is not as the format wants it, or much larger than it."""
    count = chance.choice([0, 1, 5, 1000, 1 << 16, 1 << 22])
    kind = chance.choice(["<u1", "<u2", "<u4", "<u8", ">u8", "<i8", "<f8", "O", "S4", "V44"])
    if kind == "O":
        header = f"{{'descr': '|O', 'fortran_order': False, 'shape': ({count},), }}\n".encode()
        return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(count)
    array = np.full(count, chance.choice([0, 1, 97, 255]), "u1").repeat(np.dtype(kind).itemsize)
    value = npy(array.view(kind))
    shapes = [
        b"(1 << 9,)",
        b"(9999999999,)",
        b"(-1,)",
        b"()",
        b"(5, 1)",
        b"(18446744073709551616,)",
    ]
    if chance.random() < 0.3:
        value = value.replace(f"({count},)".encode(), chance.choice(shapes))
    return value.replace(b"False", b"True ") if chance.random() < 0.1 else value


def with_other_metadata(chance, content):
    members = members_of(content)
    metadata = json.loads(np.load(io.BytesIO(members["metadata.npy"])).tobytes())
    for _ in range(chance.randrange(1, 3)):
        where = chance.choice([metadata, metadata, metadata.get("capabilities")])
        if isinstance(where, dict) and where:
            where[chance.choice([*where, "more"])] = chance.choice(VALUES)
    text = json.dumps(metadata).encode()
    deep = chance.choice([b"[", b'{"a":', b"1", b"[],"]) * 60_000
    text = chance.choice([text] * 9 + [deep])
    members["metadata.npy"] = npy(np.frombuffer(text, np.uint8))
    return archived(chance, members)


def bomb(chance, content):
    """Consistent, and much larger than its file."""
    members = members_of(content)
    count = chance.choice([1 << 18, 1 << 20, 1 << 22, 1 << 24])
    rows = np.zeros(1, file_format.MAPPING_DTYPE)
    rows["start"], rows["end"], rows["permissions"] = PAGE, 1 << 47, b"rw-p"
    if chance.random() < 0.3:
        rows = rows.repeat(count >> 2)
        rows["start"] = (np.arange(len(rows), dtype=np.uint64) + 1) * np.uint64(2 * PAGE)
        rows["end"] = rows["start"] + np.uint64(PAGE)
        count = 1
    members["mappings.npy"] = npy(rows)
    text = np.full(chance.choice([1, 1 << 20, 1 << 25]), chance.choice([97, 255]), "u1")
    members["paths.npy"] = npy(np.concatenate((text, np.zeros(len(rows), "u1"))))
    for name in ("gaps", "lengths"):
        members[f"{name}.npy"] = npy(np.ones(count, chance.choice(["<u1", "<u2", "<u8"])))
    members["states.npy"] = npy(np.ones(count, "<u2"))
    return archived(chance, members)


CHANGES = [damaged, with_other_records, with_other_members, with_other_members, with_other_metadata]
