"""Types of the compiled module."""

from typing import Any

from typing_extensions import disjoint_base

__pyx_capi__: dict[str, Any]
__test__: dict[str, Any]

WP_ASYNC: int

@disjoint_base
class Userfaultfd:
    closed: bool
    def __new__(cls) -> Userfaultfd: ...
    def register(self, start: int, end: int) -> None: ...
    def close(self) -> None: ...

def features() -> int: ...
