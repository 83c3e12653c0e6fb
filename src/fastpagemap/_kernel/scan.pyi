"""Types of the compiled module."""

from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

__pyx_capi__: dict[str, Any]
__test__: dict[str, Any]

_U64 = npt.NDArray[np.uint64]

QUESTION_NUMBERS: dict[str, int]

@disjoint_base
class Plan:
    def __new__(
        cls,
        anyof: int,
        returns: int,
        complement: bool,
        verify: tuple[tuple[int, int], ...],
        answers: dict[str, tuple[int, int]],
    ) -> Plan: ...

def fill(
    fd: int,
    maps: int,
    path: str,
    start: int,
    count: int,
    masks: dict[str, npt.NDArray[np.bool_]],
    plan: Plan,
) -> None: ...
def count(
    fd: int,
    path: str,
    starts: _U64,
    ends: _U64,
    questions: tuple[str, ...],
    counts: _U64,
    maps: int,
    plan: Plan,
) -> None: ...
def read(fd: int, path: str, start: int, entries: _U64, plan: Plan) -> None: ...
def regions(
    fd: int,
    path: str,
    starts: _U64,
    ends: _U64,
    mask: int,
    anyof: int,
    inverted: int,
    returns: int,
) -> bytes: ...
def extents(fd: int, path: str, starts: _U64, ends: _U64, pages: int) -> bytes: ...
