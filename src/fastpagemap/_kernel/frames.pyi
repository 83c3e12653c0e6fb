"""Types of the compiled module; the buffers are checked there."""

from typing import Any

import numpy as np
import numpy.typing as npt

__pyx_capi__: dict[str, Any]
__test__: dict[str, Any]

_U64 = npt.NDArray[np.uint64]
_Order = npt.NDArray[np.int64]

def cost(frames: _U64) -> int: ...
def read(file: int, path: str, frames: _U64, order: _Order | None, values: _U64) -> None: ...
def read_counts(
    file: int, path: str, frames: _U64, order: _Order | None, counts: npt.NDArray[np.uint32]
) -> None: ...
