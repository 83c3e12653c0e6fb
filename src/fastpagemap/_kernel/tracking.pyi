"""Types of the compiled module."""

from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from .uffd import Userfaultfd

__test__: dict[str, Any]

def protect(fd: int, maps: int, watch: Userfaultfd, path: str) -> None: ...

@disjoint_base
class Answer:
    def __new__(cls, watch: Userfaultfd, fd: int, maps: int, path: str) -> Answer: ...
    def fill(self, mask: npt.NDArray[np.bool_], reset: bool, zeroed: bool) -> None: ...
    def regions(self, asked: tuple[int, int, int, int], reset: bool) -> bytes: ...
    def give_back(self) -> None: ...
