"""A snapshot as a stream of Arrow: what each library makes of it, as it is."""

import importlib
import sys

import pytest

import runas
from needs import Missing
from snapshots import small


def _of_duckdb(duckdb, taken):
    found = duckdb.sql("select * from taken")
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


#: How each library takes it, and gives its rows back.
LIBRARIES = {
    "pyarrow": lambda pyarrow, taken: pyarrow.table(taken).to_pylist(),
    "polars": lambda polars, taken: polars.DataFrame(taken).to_dicts(),
    "duckdb": _of_duckdb,
}


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("count", [0, 4])
def test_a_snapshot_is_taken_as_it_is(name, count):
    try:
        library = importlib.import_module(name)
    except ImportError as error:
        raise Missing(name) from error
    taken = small(states=small().states[:count])
    found = LIBRARIES[name](library, taken)
    assert found == taken.to_arrow().to_pylist()
    assert len(found) == count


def test_without_pyarrow():
    def convert():
        sys.modules["pyarrow"] = None  # as if it were not installed
        small().__arrow_c_stream__()

    with pytest.raises(ImportError, match=r"pip install 'fastpagemap\[arrow\]'"):
        runas.in_child(convert)
