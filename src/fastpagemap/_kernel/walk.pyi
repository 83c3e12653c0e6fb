"""Types of the compiled module; the buffers are checked by the caller."""

from typing import Any

import numpy as np
import numpy.typing as npt

from .plan import Plan
from .sinks import Sink

__test__: dict[str, Any]

CLIPPED_FLAG: int
SMALL_PAGES: int

_U64 = npt.NDArray[np.uint64]

def walk(
    fd: int,
    maps: int,
    path: str,
    starts: _U64,
    ends: _U64,
    kinds: npt.NDArray[np.uint8],
    plans: tuple[Plan, ...],
    sink: Sink,
    rows: npt.NDArray[np.int64] | None = None,
    counts: _U64 | None = None,
) -> None: ...
def scan_little(fd: int, path: str, end: int, plan: Plan, sink: Sink) -> None: ...
