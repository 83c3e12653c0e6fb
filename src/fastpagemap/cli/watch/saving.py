"""Saves what is on the screen."""

from __future__ import annotations

import itertools
import os

from fastpagemap.cli.output import replacing

__all__ = ["save"]


def save(content: str, stem: str) -> str:
    """Write a picture into a new file of this directory, all of it or nothing; return its name."""
    names = (f"{stem}-{number}.svg" for number in itertools.count(1))
    path = next(name for name in names if not os.path.lexists(name))
    with replacing(path) as file:
        file.write(content.encode())
    return path
