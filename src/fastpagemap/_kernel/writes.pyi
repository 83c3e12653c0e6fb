"""Types of the compiled module."""

from typing import Any

import numpy as np
import numpy.typing as npt

from .uffd import Userfaultfd

__test__: dict[str, Any]

def is_all_mapped(maps: int, start: int, end: int) -> bool: ...
def is_anonymous_writable(maps: int, start: int, end: int) -> bool: ...
def protect(fd: int, path: str, start: int, end: int) -> None: ...
def written(
    fd: int,
    watch: Userfaultfd,
    path: str,
    start: int,
    mask: npt.NDArray[np.uint8],
    reset: bool,
    zeroed: bool,
) -> None: ...
def regions(
    fd: int,
    watch: Userfaultfd,
    path: str,
    start: int,
    end: int,
    asked: tuple[int, int, int, int],
    reset: bool,
) -> bytes: ...
