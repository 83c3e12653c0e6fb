"""Types of the compiled module."""

from typing import Any

__test__: dict[str, Any]

def extent(buffer: Any) -> tuple[int, int]: ...
def dlpack_extent(capsule: Any) -> tuple[int, int]: ...
