"""Types of the compiled module."""

from typing import Any

from typing_extensions import disjoint_base

__test__: dict[str, Any]

CWD: int
RESOLVE_NO_XDEV: int
RESOLVE_NO_SYMLINKS: int
RESOLVE_IN_ROOT: int
RESOLVE_CACHED: int

@disjoint_base
class Descriptor:
    fd: int
    def __new__(cls) -> Descriptor: ...

def open_file(path: str | bytes, flags: int, directory: int = ..., mode: int = 0) -> Descriptor: ...
def duplicate(fd: int) -> Descriptor: ...
def open_resolved(
    path: str | bytes, flags: int, resolve: int, directory: int = ...
) -> Descriptor: ...
def open_memory(name: str, flags: int = 0) -> Descriptor: ...
def open_pidfd(pid: int) -> Descriptor: ...
def compare_memory(one: int, other: int) -> int: ...
