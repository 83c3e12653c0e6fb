"""Rows with labels, and as tables of pandas, polars and Arrow."""

import importlib
import os
import sys

import numpy as np
import pytest

import fastpagemap as fpm
import linux
import memory
import runas
from fastpagemap.model.kinds import LABELS, kinds
from needs import Missing
from snapshots import small

#: How to make a table of each library, and to get its columns back.
TABLES = {
    "pandas": (fpm.to_pandas, lambda table: {name: table[name].tolist() for name in table}),
    "polars": (fpm.to_polars, lambda table: table.to_dict(as_series=False)),
    "pyarrow": (fpm.to_arrow, lambda table: table.to_pydict()),
}


@pytest.fixture(params=TABLES)
def library(request):
    try:
        importlib.import_module(request.param)
    except ImportError as error:
        raise Missing(request.param) from error
    return TABLES[request.param]


# ---- labels --------------------------------------------------------------------------------------


def test_what_maps_says_of_each_row(victim):
    with fpm.PageMap(victim.pid) as pm:
        mappings = pm.mappings()
        rows = pm.usage(fields=["kind", "path", "size", "start", *LABELS[:-2]])
        assert rows.dtype.names[:4] == ("kind", "path", "size", "start")
        for name in ("start", *LABELS[:-1]):
            assert rows[name].tolist() == [getattr(m, name) for m in mappings]
        assert rows["kind"].tolist() == kinds(mappings)
        assert {"heap", "stack", "executable", "anonymous", "kernel"} <= set(rows["kind"].tolist())
        assert rows["size"].tolist() == pm.usage()["size"].tolist()
        assert pm.usage(fields="path").dtype.names == ("path",)


def test_some_mappings_of_a_program_are_executable():
    """The kind is that among all mappings: another one makes the file a program."""
    with fpm.PageMap() as pm:
        data = [m for m in pm.mappings() if m.path == os.path.realpath(sys.executable)]
        data = [m for m in data if "x" not in m.permissions]
        assert data
        assert pm.usage(data, fields=["kind"])["kind"].tolist() == ["executable"] * len(data)
        assert len(pm.usage([], fields=["kind", "present"])) == 0


@pytest.mark.root
def test_the_kind_of_a_file_is_asked_of_its_file_system(victim):
    span = victim.make("tmpfs", 3)
    with fpm.PageMap(victim.pid) as pm:
        rows = pm.usage(fields=["start", "path", "kind"])
    (row,) = rows[rows["start"] == span.start]
    assert not row["path"].startswith("/dev/")  # no name tells it
    assert row["kind"] == "shared memory"


def test_of_a_snapshot():
    taken = small()
    rows = taken.usage(fields=["path", "present", "kind"])
    assert rows["path"].tolist() == [m.path for m in taken.mappings]
    assert rows["kind"].tolist() == kinds(taken.mappings)
    assert rows["present"].tolist() == taken.usage()["present"].tolist()


def test_no_such_column():
    for ask in (fpm.PageMap().usage, small().usage):
        with pytest.raises(ValueError, match=r"no column 'paths': there are start.*, path, kind$"):
            ask(fields=["path", "paths"])


# ---- tables --------------------------------------------------------------------------------------


def test_the_same_rows(library):
    make, columns = library
    with fpm.PageMap() as pm:
        rows = pm.usage(fields=["start", "present", "path", "kind"])
        assert columns(make(rows)) == {name: rows[name].tolist() for name in rows.dtype.names}
        runs = pm.states()
        assert columns(make(runs))["state"] == runs["state"].tolist()
        pages = fpm.decode(pm.read(bytes(10)).entries)
        assert columns(make(pages))["present"] == pages["present"].tolist()


def test_one_row(library):
    make, columns = library
    row = fpm.PageMap().usage(fields=["start", "path"])[0]
    assert columns(make(row)) == {"start": [row["start"]], "path": [row["path"]]}


def test_no_rows(library):
    """Of no rows, too, texts are texts and numbers numbers, so that tables can be joined."""
    make, columns = library
    table = make(fpm.PageMap().usage([], fields=["present", "path"]))
    assert columns(table) == {"present": [], "path": []}
    number, text = table.schema.types if make is fpm.to_arrow else table.dtypes
    assert str(number).lower() == "uint64"
    assert str(text).lower() in ("string", "object", "str")


def test_paths_that_are_no_text(library, tmp_path):
    make, columns = library
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe caf\xc3\xa9")
    with open(path, "wb+") as file:
        os.ftruncate(file.fileno(), linux.PAGE)
        with memory.Memory(1, flags=memory.mmap.MAP_SHARED, fd=os.dup(file.fileno())):
            rows = fpm.PageMap().usage(fields=["path"])
    assert path in rows["path"].tolist()
    assert f"{tmp_path}/\\xff\\xfe café" in columns(make(rows))["path"]


def test_a_path_is_not_repeated_for_gigabytes(library):
    """Rows share the text; in a table each has its own, and other users choose how long it is."""
    make, _ = library
    rows = np.empty(3000, [("path", object)])
    rows["path"] = "/" + "d" * (1 << 20)
    with pytest.raises(MemoryError, match="the texts of 3000 rows take 3000 MiB"):
        make(rows)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (np.zeros(3), r"\(3,\) of float64"),
        (np.zeros((2, 2), fpm.RUN_DTYPE), r"\(2, 2\) of "),
        ([1, 2], "a list"),
        (small(), "a Snapshot"),
        (small().mappings[0], "a Mapping"),
        (None, "a NoneType"),
    ],
)
def test_what_are_no_rows(library, wrong, named):
    make, _ = library
    with pytest.raises(
        ValueError, match=f"^{named}.*: rows with named columns are needed, as from"
    ):
        make(wrong)


@pytest.mark.parametrize("name", TABLES)
def test_a_library_that_is_not_installed(name):
    def convert():
        sys.modules[name] = None  # as if it were not installed
        TABLES[name][0](np.zeros(1, fpm.RUN_DTYPE))

    with pytest.raises(ModuleNotFoundError, match=f"{name} is not installed: pip install "):
        runas.in_child(convert)
