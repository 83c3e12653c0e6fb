"""Types of the compiled module."""

from typing import Any

__test__: dict[str, Any]

def search(fd: int, path: str, page: int, end: int, exact: bool) -> bytes: ...
