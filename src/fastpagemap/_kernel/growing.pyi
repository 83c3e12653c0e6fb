"""Types of the compiled module; most of what it offers is for other Cython modules."""

from collections.abc import Callable
from typing import Any

__pyx_capi__: dict[str, Any]
__test__: dict[str, Any]

def limit_growth(affordable: Callable[[int, int, str], None]) -> None: ...
