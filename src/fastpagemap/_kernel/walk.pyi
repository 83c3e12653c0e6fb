"""Types of the compiled module; the buffers are checked by the caller."""

from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from .sinks import Sink

__pyx_capi__: dict[str, Any]
__test__: dict[str, Any]

CLIPPED_FLAG: int
SMALL_PAGES: int

_U64 = npt.NDArray[np.uint64]

@disjoint_base
class Plan:
    def __new__(
        cls,
        *,
        scan: bool,
        anyof: int = 0,
        returns: int = 0,
        complement: bool = False,
        verified: tuple[tuple[int, int], ...] = (),
        present_state: int = 0,
        scanned: int = 0,
        one_entry: bool = False,
    ) -> Plan: ...

def read_small(fd: int, path: str, start: int, end: int, sink: Sink) -> None: ...
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
    goes_on: bool = False,
) -> None: ...
