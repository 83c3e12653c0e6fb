"""Types of the compiled module."""

from typing import Any

from typing_extensions import disjoint_base

__pyx_capi__: dict[str, Any]
__test__: dict[str, Any]

WP_ASYNC: int
RWP_ASYNC: int

@disjoint_base
class Userfaultfd:
    closed: bool
    def __new__(cls, accesses: bool = False) -> Userfaultfd: ...
    def register(self, start: int, end: int) -> None: ...
    def close(self) -> None: ...
    def count_as_used(self, pagemap: int, maps: int, start: int, end: int) -> None: ...

def features() -> int: ...
