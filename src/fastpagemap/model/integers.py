"""Numbers that callers give in place of addresses, sizes, frames, flags."""

import contextlib
import operator
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["integers", "not_negative"]


def integers(values: npt.ArrayLike, what: str) -> npt.NDArray[Any]:
    """Return numbers as an array of integers of any size. An array is not looked through.

    Raises
    ------
    ValueError
        They are of another kind; `what` names them in the message.
    """
    array = np.asarray(values)
    if not array.size:
        return np.empty(array.shape, np.uint64)
    if array.dtype.kind in "fO" and not isinstance(values, np.ndarray):
        # numpy makes floats of ints if some do not fit int64, and others do not fit uint64.
        each = np.asarray(values, object)
        with contextlib.suppress(TypeError, OverflowError):
            flat = np.fromiter(map(operator.index, each.reshape(-1)), np.uint64, each.size)
            return flat.reshape(each.shape)
    if array.dtype.kind not in "ui":
        raise ValueError(f"{what} of dtype {array.dtype}: integers up to 2**64 are needed")
    return array


def not_negative(array: npt.NDArray[Any], what: str) -> npt.NDArray[Any]:
    """Return integers; raise ValueError if one is negative."""
    if array.dtype.kind == "i" and array.size and (least := array.min()) < 0:
        raise ValueError(f"{what}[{int(array.argmin())}] is {least}: it cannot be negative")
    return array
