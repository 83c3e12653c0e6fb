"""Types of the compiled module."""

from typing import Any

__test__: dict[str, Any]

def layout(buffer: Any) -> tuple[int, tuple[int, ...], tuple[int, ...], int]: ...
def dlpack_layout(capsule: Any) -> tuple[int, tuple[int, ...], tuple[int, ...] | None, int]: ...
