"""A snapshot as an Arrow table, for pandas, polars, DuckDB and Parquet files."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..model.mapping import Mapping
from ..model.runs import RUN_DTYPE, Runs, bounds
from .dataframes import arrow_column, check_size, imported, texts

__all__ = ["table"]

_TEXT = ("permissions", "path")


def table(mappings: list[Mapping], states: Runs) -> Any:
    """Return a row a run; see ``Snapshot.to_arrow``."""
    pyarrow = imported("pyarrow")
    columns = {
        name: arrow_column(np.ascontiguousarray(states[name])) for name in RUN_DTYPE.names or ()
    }
    rows = np.searchsorted(bounds(mappings)[0], states["start"], "right") - 1
    _check_paths(mappings, rows)
    for name in Mapping._fields:
        values = [getattr(mapping, name) for mapping in mappings]
        column = texts(values) if name in _TEXT else np.array(values, np.uint64)
        columns[f"mapping_{name}"] = arrow_column(column).take(pyarrow.array(rows))
    return pyarrow.table(columns)


def _check_paths(mappings: list[Mapping], rows: npt.NDArray[np.intp]) -> None:
    """Raise MemoryError if the paths, which are repeated in each row, would take too much."""
    sizes = np.array([len(mapping.path) for mapping in mappings], np.float64)
    size = float((np.bincount(rows, minlength=len(sizes)) * sizes).sum())
    check_size(size, len(rows))
