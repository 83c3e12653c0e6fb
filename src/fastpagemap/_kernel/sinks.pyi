"""Types of the compiled module; the buffers are checked by the caller."""

from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from .frame_table import FrameTable

__test__: dict[str, Any]

_U64 = npt.NDArray[np.uint64]
_U16 = npt.NDArray[np.uint16]

@disjoint_base
class Sink:
    def __new__(
        cls,
        questions: tuple[tuple[int, int], ...],
        origin: int = 0,
        masks: tuple[npt.NDArray[np.uint8] | npt.NDArray[np.bool_], ...] = (),
        runs: bool = False,
        states: _U16 | None = None,
        entries: _U64 | None = None,
        internal: bool = False,
        frames: bool = False,
        all_frames: bool = False,
        locations: bool = False,
        table: FrameTable | None = None,
    ) -> Sink: ...
    def counts(self) -> list[int]: ...
    def runs(self) -> bytes: ...
    def taken_frames(self) -> bytes: ...
    def taken_locations(self) -> bytes: ...
    @property
    def sees_frames(self) -> bool: ...
    @property
    def run_count(self) -> int: ...
    def clear(self, start: int, end: int) -> None: ...
    def put(self, start: int, states: _U16, begins: bool) -> None: ...
    def put_runs(self, start: int, end: int, runs: npt.NDArray[np.void], begins: bool) -> None: ...
    def put_entries(self, start: int, entries: _U64) -> None: ...

def mask(entries: _U64, mask: npt.NDArray[np.uint8], bits: int, value: int) -> None: ...
