"""Snapshots made by hand, saved and loaded in memory, and files that a stranger forged."""

import dataclasses
import functools
import io
import json
import os
import zipfile

import numpy as np

import fastpagemap as fpm
from fastpagemap import Mapping, Snapshot
from linux import PAGE


@functools.cache
def whole():
    """A snapshot of this process."""
    with fpm.PageMap() as pm:
        return pm.snapshot()


def small(**changes):
    """A snapshot of this process, made small, with some fields changed."""
    taken = whole()
    spans = [
        Mapping(2 * PAGE, 6 * PAGE, "rw-p", 0, 0, 0, ""),
        Mapping(6 * PAGE, 9 * PAGE, "r--s", 4096, 8, 9, os.fsdecode(b"/odd \xff\xc3\n\x1b[2J\\")),
    ]
    rows = [(2, 3, 1 | 16), (3, 6, 2), (6, 7, 2), (8, 9, 1 | 8)]
    runs = np.array([(a * PAGE, b * PAGE, c) for a, b, c in rows], fpm.RUN_DTYPE)
    return dataclasses.replace(taken, **{"mappings": spans, "states": runs, **changes})


def content_of(snapshot):
    file = io.BytesIO()
    snapshot.save(file)
    return file.getvalue()


def load(content):
    return Snapshot.load(io.BytesIO(content))


def check_same(one, other):
    for field in dataclasses.fields(Snapshot):
        mine, its = getattr(one, field.name), getattr(other, field.name)
        if field.name == "states":
            assert mine.dtype == its.dtype == fpm.RUN_DTYPE
            mine, its = mine.tolist(), its.tolist()
        assert mine == its, field.name


def forged(changes=None, members=None, compression=zipfile.ZIP_DEFLATED):
    """A file with other metadata, or other arrays or bytes as its members."""
    snapshot = small()
    with zipfile.ZipFile(io.BytesIO(content_of(snapshot))) as archive:
        contents = {info.filename: archive.read(info) for info in archive.infolist()}
    if changes is not None:
        metadata = json.loads(np.load(io.BytesIO(contents["metadata.npy"])).tobytes())
        metadata = {**metadata, **changes} if isinstance(changes, dict) else changes
        text = metadata if isinstance(metadata, bytes) else json.dumps(metadata).encode()
        contents["metadata.npy"] = npy(np.frombuffer(text, np.uint8))
    for name, value in (members or {}).items():
        contents[f"{name}.npy"] = value if isinstance(value, bytes) else npy(value)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, value in contents.items():
            if value:
                archive.writestr(name, value)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=(1, 0))
    return file.getvalue()
