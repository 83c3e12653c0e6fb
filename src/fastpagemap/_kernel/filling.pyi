"""Types of the compiled module; what it offers is for other Cython modules."""

from typing import Any

__pyx_capi__: dict[str, Any]
__test__: dict[str, Any]
