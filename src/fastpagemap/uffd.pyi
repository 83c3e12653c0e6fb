"""Types of the compiled module."""

from typing import Any

__test__: dict[str, Any]

def features() -> int: ...
