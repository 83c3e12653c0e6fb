"""Types of the compiled module."""

from typing import Any

import numpy as np
import numpy.typing as npt

from .swap_types import MAX_RESERVED as MAX_RESERVED
from .swap_types import MIN_RESERVED as MIN_RESERVED

__pyx_capi__: dict[str, Any]
__test__: dict[str, Any]

def set_reserved_types(count: int) -> None: ...
def decode(entries: npt.NDArray[np.uint64], pages: npt.NDArray[np.void]) -> None: ...
