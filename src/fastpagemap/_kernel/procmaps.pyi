"""Types of the compiled module."""

from collections.abc import Callable
from typing import Any, TypeVar

__pyx_capi__: dict[str, Any]
__test__: dict[str, Any]

_Row = TypeVar("_Row", bound=tuple[Any, ...])

def read_all(fd: int, path: str) -> bytes: ...
def parse_maps(
    text: bytes, row_type: type[_Row], fsdecode: Callable[[bytes], str]
) -> list[_Row]: ...
def query(
    fd: int,
    path: str,
    start: int,
    end: int,
    files: bool,
    row_type: type[_Row],
    fsdecode: Callable[[bytes], str],
) -> _Row | None: ...
