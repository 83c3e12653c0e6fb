"""Types of the compiled module."""

from typing import Any

from typing_extensions import disjoint_base

__test__: dict[str, Any]

@disjoint_base
class Ranges:
    @property
    def diskless(self) -> list[tuple[int, int]]: ...
    @property
    def size(self) -> int: ...
    def __len__(self) -> int: ...
    def feed(self, text: bytes) -> None: ...
    def query(self, maps: int) -> bool: ...
    def segments(
        self, anonymous: int, together: bool, diskless: bool = True
    ) -> tuple[bytes, bytes, bytes]: ...
