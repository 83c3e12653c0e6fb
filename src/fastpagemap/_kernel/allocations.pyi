"""Types of the compiled module; the buffers are checked by the caller."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

__test__: dict[str, Any]

_U64 = npt.NDArray[np.uint64]

MASK_COUNT: int
BLOCK_PAGES: int
BLOCK_SHIFT: int

def mark(
    addresses: _U64, sizes: _U64, starts: _U64, ends: _U64, words: _U64, marked: _U64
) -> None: ...
def runs(marked: _U64, first: int, blocks: int, gap: int) -> Iterator[tuple[int, int]]: ...
def pack(states: npt.NDArray[np.uint16], totals: _U64, blocks: _U64) -> None: ...
def sum_allocations(
    addresses: _U64,
    sizes: _U64,
    starts: _U64,
    ends: _U64,
    first: _U64,
    blocks: _U64,
    totals: _U64,
    rows: _U64,
) -> None: ...
