"""Types of the compiled module."""

from typing import Any

from .sinks import Sink

__pyx_capi__: dict[str, Any]
__test__: dict[str, Any]

def read_small(fd: int, path: str, start: int, end: int, sink: Sink) -> None: ...
