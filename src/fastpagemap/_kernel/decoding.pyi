"""Types of the compiled module."""

from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

__pyx_capi__: dict[str, Any]
__test__: dict[str, Any]

QUESTION_NUMBERS: dict[str, int]

_U64 = npt.NDArray[np.uint64]

@disjoint_base
class Sinks:
    def __new__(cls, masks: dict[str, npt.NDArray[np.bool_]], count: int) -> Sinks: ...

def decode(entries: _U64, pages: npt.NDArray[np.void]) -> None: ...
def mask(entries: _U64, mask: npt.NDArray[np.uint8], question: int) -> None: ...
