"""Functions of higher layers that objects of lower layers call.

A `Snapshot` draws itself, and a `PageMap` shows itself in a notebook. Both need ``report``, which
stands above them, so they must not import it. The top-level package stands above every layer: it
provides here what imports ``report`` once it is needed.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

__all__ = ["load", "provide"]

_loaders: dict[str, Callable[[], ModuleType]] = {}


def provide(**loaders: Callable[[], ModuleType]) -> None:
    """Set, by name, the functions that import modules of higher layers."""
    _loaders.update(loaders)


def load(name: str) -> Any:
    """Import a module that was provided under this name, and return it."""
    return _loaders[name]()
