"""Types of the compiled module."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from typing_extensions import disjoint_base

__pyx_capi__: dict[str, Any]
__test__: dict[str, Any]

_Row = TypeVar("_Row", bound=tuple[Any, ...])

@disjoint_base
class Parser(Generic[_Row]):
    rows: list[_Row]
    def __new__(cls, row_type: type[_Row], fsdecode: Callable[[bytes], str]) -> Parser[_Row]: ...
    def feed(self, text: bytes) -> None: ...

def parse_maps(
    text: bytes, row_type: type[_Row], fsdecode: Callable[[bytes], str]
) -> list[_Row]: ...
def cut_back(rows: list[_Row], start: int) -> int: ...
def is_anonymous_with(maps: int, start: int, end: int, rights: str) -> bool: ...
def query(
    fd: int,
    path: str,
    start: int,
    end: int,
    files: bool,
    row_type: type[_Row],
    fsdecode: Callable[[bytes], str],
) -> _Row | None: ...
