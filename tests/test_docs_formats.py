"""The reference's tables of file formats, against files that are really written."""

import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

import fastpagemap as fpm
from commandline import run

REFERENCE = Path(__file__).resolve().parent.parent / "docs/reference"


def table(page, first):
    """Yield the rows of the table whose head begins with a word: the names, and the other cells."""
    text = (REFERENCE / page).read_text()
    head = re.search(rf"^\| {first} \|.*\n\| --- .*\n((?:\|.*\n)+)", text, re.MULTILINE)
    for line in head[1].splitlines():
        names, *cells = (cell.strip() for cell in line.strip("|").split(" | "))
        yield re.findall(r"`(\w+)`", names), cells


def described(page, first):
    """Return the first of the other cells by name."""
    return {name: cells[0] for names, cells in table(page, first) for name in names}


@pytest.fixture
def members():
    file = io.BytesIO()
    fpm.PageMap().snapshot().save(file)
    file.seek(0)
    with np.load(file) as archive:
        return dict(archive)


def test_members_of_a_snapshot(members):
    told = described("snapshot_format.md", "member")
    assert list(told) == list(members)
    for name, array in members.items():
        if name != "mappings":
            assert f"`{array.dtype.str[1:]}`" in told[name], name


def test_fields_of_mappings(members):
    told = described("snapshot_format.md", "field")
    fields = members["mappings"].dtype.fields
    assert {name: kind.strip("`") for name, kind in told.items()} == {
        name: kind.str.strip("<|") for name, (kind, _) in fields.items()
    }


def test_states_of_a_snapshot():
    (text,) = re.findall(
        r"\n\| number \|(.*?)\n\n", (REFERENCE / "snapshot_format.md").read_text(), re.S
    )
    told = {name: int(number) for number, name in re.findall(r"\b(\d+) \| `(\w+)`", text)}
    assert told == {state.name: int(state) for state in fpm.State}


def test_metadata_of_a_snapshot(members):
    kinds = {"string": str, "int": int, "number": float, "bool": bool, "object": dict}
    metadata = json.loads(members["metadata"].tobytes())
    told = described("snapshot_format.md", "key")
    assert told.keys() == metadata.keys()
    for name, kind in told.items():
        assert type(metadata[name]) is kinds[kind.removesuffix(" or null")], name
    assert metadata["capabilities"].keys() == fpm.Capabilities.__dataclass_fields__.keys()


def test_columns_of_parquet_files(tmp_path):
    arrow = {"string": "string", "int64": "int64", "uint64": "uint64", "double": "double"}
    arrow["timestamp, microseconds, UTC"] = "timestamp[us, tz=UTC]"
    told = {
        name: arrow[kind.partition(";")[0]]
        for name, kind in described("record_format.md", "column").items()
    }
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.parquet"
    assert run("report", os.getpid(), "--parquet", path).returncode == 0
    schema = parquet.read_schema(path)
    assert list(told.items()) == [(field.name, str(field.type)) for field in schema]
