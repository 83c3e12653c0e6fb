"""Command lines as text that tells processes apart."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from fastpagemap.report.text import beginning, printable

__all__ = ["shortened", "told_apart"]


def shortened(line: str, width: int, dots: str = "…") -> str:
    """Return a command line in so many columns, where need be without its program's directory."""
    if len(line) > width:
        line = _without_directory(line)
    return beginning(line, width, dots)


def told_apart(lines: Sequence[str], width: int, dots: str = "…") -> list[str]:
    """Return command lines in so many columns, where need be without what all have in common.

    The directories of the programs are cut, then a beginning that all share, then words that all
    share; then what is still too long, at its end.
    """
    shown = [printable(line) for line in lines]
    for shorten in (_without_directories, _without_beginning, _without_words):
        if len(set(shown)) < 2 or all(len(line) <= width for line in shown):
            break
        shown = shorten(shown, dots)
    return [beginning(line, width, dots) for line in shown]


def _without_directories(lines: list[str], dots: str) -> list[str]:
    return [_without_directory(line) for line in lines]


def _without_directory(line: str) -> str:
    program, blank, arguments = line.partition(" ")
    return program.rpartition("/")[2] + blank + arguments if program[:1] == "/" else line


def _without_beginning(lines: list[str], dots: str) -> list[str]:
    common = os.path.commonprefix(lines)  # noqa: RUF071 - of characters
    # to the end of a word or of a directory: half a word would be taken for another one
    cut = max(common.rfind(" "), common.rfind("/")) + 1
    if cut <= len(dots) or any(len(line) <= cut for line in lines):
        return lines
    return [dots + line[cut:] for line in lines]


def _without_words(lines: list[str], dots: str) -> list[str]:
    common = set.intersection(*(set(line.split(" ")) for line in lines)) - {"", dots}
    if any(set(line.split(" ")) <= common for line in lines):  # nothing of it would be left
        return lines
    found = []
    for line in lines:
        words = [dots if word in common else word for word in line.split(" ")]
        found.append(re.sub(rf"{re.escape(dots)}( {re.escape(dots)})+", dots, " ".join(words)))
    return found
