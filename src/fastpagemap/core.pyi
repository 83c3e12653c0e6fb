"""Types of the compiled module; what it offers is for other extension modules: see core.pxd."""

from typing import Any

__pyx_capi__: dict[str, Any]
__test__: dict[str, Any]

_C_API: Any
