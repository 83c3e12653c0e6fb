"""Types of the compiled module: C functions alone."""

from typing import Any

__pyx_capi__: dict[str, Any]
__test__: dict[str, Any]
