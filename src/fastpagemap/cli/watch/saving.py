"""Saves the screen as a file."""

from __future__ import annotations

import itertools
import os

from fastpagemap.snapshot.replace_file import replace_file

__all__ = ["save"]


def save(content: str, stem: str, owner: int | None) -> str:
    """Write a picture of a user's memory to a new file in this directory; return its name."""
    names = (f"{stem}-{number}.svg" for number in itertools.count(1))
    path = next(name for name in names if not os.path.lexists(name))
    with replace_file(path, owner) as file:
        file.write(content.encode())
    return path
