"""Sizes and names as text that is safe to print: other users choose the names."""

from __future__ import annotations

import re

#: Characters of a name that are looked at for each column that it may take. Names may have a
#: million characters, and any number of them without a width.
_CHARS_A_COLUMN = 4
#: Shown in place of the path of a mapping that has none.
ANON = "[anon]"
#: Longer than any file name that Linux has, in bytes.
_MAX_NAME = 256
#: Characters that str.isprintable lets pass, although they show nothing: joiners, fillers,
#: selectors of variants.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def human(size: int) -> str:
    """Return a size in binary units, in at most six characters: ``0``, ``4Ki``, ``1.5Gi``."""
    value, unit = float(size), ""
    for bigger in "KMGTPE":
        if round(value) < 1024:  # rounded as it is printed, so that nothing reads "1024Ki"
            break
        value, unit = value / 1024, bigger + "i"
    digits = f"{value:.1f}" if round(value, 1) < 100 else f"{value:.0f}"
    return digits.removesuffix(".0") + unit


def plural(count: int, what: str) -> str:
    """Return what so many of something are called: ``mapping``, ``mappings``, ``processes``."""
    return what if count == 1 else f"{what}{'es' if what.endswith('s') else 's'}"


def printable(text: str) -> str:
    r"""Escape what a terminal could act on, or what nobody could see.

    Escaped are control characters, bytes that are not UTF-8, characters that change the direction
    of writing, and those that show nothing.

    >>> print(printable("[heap] \x1b[31m \udcff"))
    [heap] \x1b[31m \xff
    """
    if text.isprintable() and (text.isascii() or not _INVISIBLE.search(text)):
        return text
    if text.isascii():  # much faster, and it doubles backslashes
        return text.encode("unicode_escape").decode("ascii").replace("\\\\", "\\")
    return text.translate({ord(char): _escape(char) for char in set(text)})


def _escape(char: str) -> str:
    if char.isprintable() and not _INVISIBLE.match(char):
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode's stand-in for a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def ending(text: str, width: int, dots: str = "…") -> str:
    """Return a path as `printable` does, cut at its beginning: the name is at its end.

    Parameters
    ----------
    text : str
        Only its last characters are looked at, a few for each column: the cost does not grow with
        a longer text.
    width : int
        The columns of a terminal that it may take.
    dots : str, optional
        Stands in place of what is cut.
    """
    most = _CHARS_A_COLUMN * max(width, 1)
    shown = printable(text[-most:])
    whole = len(text) <= most
    if whole and len(shown) <= width and shown.isascii():
        return shown
    widths = _widths(shown)
    if whole and sum(widths) <= width:
        return shown
    left, count = width - len(dots), 0
    for size in reversed(widths):
        left -= size
        if left < 0:
            break
        count += 1
    return dots + shown[len(shown) - count :]


def beginning(text: str, width: int, dots: str = "…") -> str:
    """Return a text as `printable` does, cut at its end; see `ending`."""
    most = _CHARS_A_COLUMN * max(width, 1)
    shown = printable(text[:most])
    widths = _widths(shown)
    if len(text) <= most and sum(widths) <= width:
        return shown
    left, count = width - len(dots), 0
    for size in widths:
        left -= size
        if left < 0:
            break
        count += 1
    return shown[:count] + dots


def _widths(text: str) -> list[int]:
    """Return how many columns of a terminal each character takes."""
    if text.isascii():
        return [1] * len(text)
    from rich.cells import get_character_cell_size  # most names need no rich

    return [get_character_cell_size(char) for char in text]


def name_of(path: str) -> str:
    """Return a short name for a mapping: that of its file, without the directory."""
    path = path or ANON
    if path.startswith("["):
        return printable(path[:_MAX_NAME])
    if path == "/dev/zero (deleted)":
        return "shared memory"
    name = path.removesuffix(" (deleted)").rpartition("/")[2] or path
    return printable(name[:_MAX_NAME])
