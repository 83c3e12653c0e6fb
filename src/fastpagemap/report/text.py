"""Sizes and names as text that is safe to print: other users choose the names."""

from __future__ import annotations


def human(size: int) -> str:
    """Return a size in binary units, in at most six characters: ``0``, ``4Ki``, ``1.5Gi``."""
    value, unit = float(size), ""
    for bigger in "KMGTPE":
        if round(value) < 1024:  # rounded as it is printed, so that nothing reads "1024Ki"
            break
        value, unit = value / 1024, bigger + "i"
    digits = f"{value:.1f}" if round(value, 1) < 100 else f"{value:.0f}"
    return digits.removesuffix(".0") + unit


def printable(text: str) -> str:
    r"""Escape what a terminal could act on: control characters, bytes that are not UTF-8.

    >>> print(printable("[heap] \x1b[31m \udcff"))
    [heap] \x1b[31m \xff
    """
    return text if text.isprintable() else "".join(map(_escape, text))


def _escape(char: str) -> str:
    if char.isprintable():
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode's stand-in for a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def name_of(path: str) -> str:
    """Return a short name for a mapping: that of its file, without the directory."""
    if not path:
        return "anonymous"
    if path.startswith("["):
        return printable(path)
    if path == "/dev/zero (deleted)":
        return "shared memory"
    return printable(path.removesuffix(" (deleted)").rpartition("/")[2] or path)
