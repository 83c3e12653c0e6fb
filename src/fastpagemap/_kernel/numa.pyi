"""Types of the compiled module; the buffers are checked there."""

from typing import Any

import numpy as np
import numpy.typing as npt

__test__: dict[str, Any]

_U64 = npt.NDArray[np.uint64]

def nodes(
    pid: int, path: str, starts: _U64, ends: _U64, origin: int, out: npt.NDArray[np.int16]
) -> None: ...
