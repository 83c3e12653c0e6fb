"""Types of the compiled module; the buffers are checked there."""

from typing import Any

import numpy as np
import numpy.typing as npt

__pyx_capi__: dict[str, Any]
__test__: dict[str, Any]

_U64 = npt.NDArray[np.uint64]

def regions(
    fd: int,
    path: str,
    starts: _U64,
    ends: _U64,
    mask: int,
    anyof: int,
    inverted: int,
    returns: int,
) -> bytes: ...
def populated(fd: int, path: str, starts: _U64, ends: _U64, pages: int) -> bytes: ...
