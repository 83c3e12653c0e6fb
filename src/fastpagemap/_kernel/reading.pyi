"""Types of the compiled module; the buffers are checked there."""

from typing import Any

import numpy as np
import numpy.typing as npt

PAGE_SIZE: int

__pyx_capi__: dict[str, Any]
__test__: dict[str, Any]

_U64 = npt.NDArray[np.uint64]

def soft_dirty() -> bool: ...
def read(fd: int, path: str, start: int, entries: _U64) -> None: ...
