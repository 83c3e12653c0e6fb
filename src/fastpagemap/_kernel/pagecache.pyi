"""Types of the compiled module."""

from typing import Any

import numpy as np
import numpy.typing as npt

__test__: dict[str, Any]

TMPFS_MAGIC: int

_Bytes = npt.NDArray[np.uint8]

def by_cachestat(fd: int, path: str, page: int, unresolved: _Bytes, swapped: _Bytes) -> int: ...
def by_mincore(fd: int, path: str, page: int, unresolved: _Bytes, swapped: _Bytes) -> int: ...
def evicted(fd: int, path: str, page: int, count: int) -> int: ...
def file_system(fd: int) -> int: ...
def swap_in_use() -> bool: ...
