"""Types of the compiled module; the buffers are checked there."""

from typing import Any

import numpy as np
import numpy.typing as npt

PAGE_SIZE: int
QUESTION_NUMBERS: dict[str, int]

__pyx_capi__: dict[str, Any]
__test__: dict[str, Any]

_U64 = npt.NDArray[np.uint64]

def soft_dirty() -> bool: ...
def read(fd: int, path: str, start: int, entries: _U64) -> None: ...
def read_masks(
    fd: int, path: str, start: int, count: int, masks: dict[str, npt.NDArray[np.bool_]]
) -> None: ...
def read_pages(fd: int, path: str, start: int, pages: npt.NDArray[np.void]) -> None: ...
def read_counts(
    fd: int, path: str, starts: _U64, ends: _U64, questions: tuple[str, ...], counts: _U64
) -> None: ...
