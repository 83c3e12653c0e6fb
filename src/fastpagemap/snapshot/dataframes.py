"""Rows as tables of pandas, polars and Arrow, which are imported only when they are asked for."""

import importlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..process.limits import affordable

__all__ = [
    "Column",
    "arrow_column",
    "check_size",
    "imported",
    "texts",
    "to_arrow",
    "to_pandas",
    "to_polars",
]

Column = list[str] | npt.NDArray[Any]
"""The texts, or the numbers, of all rows."""

# A column of strings of Arrow has 32-bit offsets.
_MAX_TEXT_BYTES = (1 << 31) - 1
_INSTALL = {"pyarrow": "'fastpagemap[arrow]'", "prometheus_client": "'fastpagemap[metrics]'"}


def to_pandas(rows: npt.NDArray[np.void]) -> Any:
    """Return rows as a ``pandas.DataFrame``.

    Parameters
    ----------
    rows : ndarray
        Structured, of one dimension, as ``PageMap.usage``, ``states`` and others return them; or
        one row, as from ``Group.total``.

    Returns
    -------
    pandas.DataFrame
        The same columns. Bytes of a path that are not UTF-8 are escaped: ``\\xff``.

    Raises
    ------
    ModuleNotFoundError
        pandas is not installed.
    ValueError
        `rows` is of another kind.
    MemoryError
        The texts would not fit into free memory, or come to 2 GiB.

    Examples
    --------
    >>> frame = fpm.to_pandas(fpm.PageMap().usage(fields=["kind", "size", "present"]))
    >>> bool((frame["present"] <= frame["size"]).all())
    True
    """
    pandas, columns = imported("pandas"), _columns(rows)
    # Of no texts pandas would make floats.
    of_text = {name: "str" for name in columns if isinstance(columns[name], list)}
    return pandas.DataFrame(columns).astype(of_text)


def to_polars(rows: npt.NDArray[np.void]) -> Any:
    """Return rows as a ``polars.DataFrame``.

    Parameters
    ----------
    rows : ndarray
        As `to_pandas` takes them.

    Returns
    -------
    polars.DataFrame
        The same columns.

    Raises
    ------
    ModuleNotFoundError, ValueError, MemoryError
        As from `to_pandas`.

    Examples
    --------
    >>> fpm.to_polars(fpm.PageMap().usage(fields=["present", "kind"])).columns
    ['present', 'kind']
    """
    polars, columns = imported("polars"), _columns(rows)
    of_text = {name: polars.String for name in columns if isinstance(columns[name], list)}
    return polars.DataFrame(columns, schema_overrides=of_text)


def to_arrow(rows: npt.NDArray[np.void]) -> Any:
    """Return rows as a ``pyarrow.Table``.

    Parameters
    ----------
    rows : ndarray
        As `to_pandas` takes them.

    Returns
    -------
    pyarrow.Table
        The same columns.

    Raises
    ------
    ModuleNotFoundError, ValueError, MemoryError
        As from `to_pandas`.

    Examples
    --------
    >>> fpm.to_arrow(fpm.PageMap().usage(fields=["present", "kind"])).column_names
    ['present', 'kind']
    """
    columns = _columns(rows).items()
    return imported("pyarrow").table({name: arrow_column(values) for name, values in columns})


def arrow_column(values: Column) -> Any:
    """Return a column as an array of pyarrow."""
    pyarrow = imported("pyarrow")
    return pyarrow.array(values, pyarrow.string() if isinstance(values, list) else None)


def check_size(size: float, rows: int) -> None:
    """Raise MemoryError if the texts of some rows, of which each has its own, take too much.

    Mappings of one path share it, but a table repeats it; and others choose how long it is.
    """
    if size > _MAX_TEXT_BYTES:
        raise MemoryError(f"the texts of {rows} rows take {size / 2**20:.0f} MiB")
    affordable(int(size), 1, "bytes of text")


def texts(values: Iterable[str]) -> list[str]:
    """Return texts with bytes that are not UTF-8 escaped, as no table can hold them."""
    return [value if value.isascii() else _unicode(value) for value in values]


def _unicode(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _columns(rows: npt.NDArray[np.void]) -> dict[str, Column]:
    wanted = "rows with named columns are needed, as from usage() or states()"
    if not isinstance(rows, (np.ndarray, np.void)):
        raise ValueError(f"a {type(rows).__name__}: {wanted}")
    table = np.atleast_1d(rows)
    if table.dtype.names is None or table.ndim != 1:
        raise ValueError(f"{table.shape} of {table.dtype}: {wanted}")
    found: dict[str, Column] = {}
    for name in table.dtype.names:
        column = table[name]
        if column.dtype == object:
            check_size(sum(map(len, column)), len(table))
        found[name] = texts(column) if column.dtype == object else np.array(column)
    return found


def imported(name: str) -> Any:
    """Import a library that need not be installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        what = f"{name} is not installed: pip install {_INSTALL.get(name, name)}"
        raise ModuleNotFoundError(what, name=name) from error
