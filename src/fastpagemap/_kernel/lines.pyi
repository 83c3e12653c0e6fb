"""Types of the compiled module."""

from collections.abc import Iterator
from typing import Any

from typing_extensions import disjoint_base

from .descriptor import Descriptor

MAX_LONG_BYTES: int

__test__: dict[str, Any]

@disjoint_base
class Lines(Iterator[bytes]):
    def __new__(cls, file: Descriptor | int, path: str, budget: int = ...) -> Lines: ...
    def __iter__(self) -> Lines: ...
    def __next__(self) -> bytes: ...

def read_all(fd: int, path: str, most: int | None = None) -> bytes: ...
