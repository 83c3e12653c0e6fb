"""Types of the compiled module; the buffers are checked there."""

from typing import Any

import numpy as np
import numpy.typing as npt

__test__: dict[str, Any]

BATCH_PAGES: int

_U64 = npt.NDArray[np.uint64]

def read_spans(pagemap: int, path: str, starts: _U64, ends: _U64, entries: _U64) -> None: ...
def find(
    pagemap: int,
    path: str,
    flags: int,
    starts: _U64,
    ends: _U64,
    at: int,
    address: int,
    rows: _U64,
    count: int,
) -> tuple[int, int, int]: ...
