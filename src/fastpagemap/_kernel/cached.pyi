"""Types of the compiled module."""

from typing import Any

import numpy as np
import numpy.typing as npt

__test__: dict[str, Any]

_Bytes = npt.NDArray[np.uint8]

def by_cachestat(fd: int, path: str, page: int, cached: _Bytes) -> None: ...
def by_mincore(fd: int, path: str, page: int, cached: _Bytes, file_pages: int) -> None: ...
def own_in_core(address: int, core: _Bytes) -> bool: ...
def counts(fd: int, path: str, page: int, count: int) -> tuple[int, int, int]: ...
