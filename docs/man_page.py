"""Print docs/fastpagemap.1, the page that ``man fastpagemap`` shows: ``make manual`` writes it.

From the same source as ``--help`` and docs/cli.md.
"""

import re
from collections.abc import Iterable, Iterator

from manual import FORMATS, commands, options_of, paragraphs

from fastpagemap.cli.group import cli

#: The sections of docs/cli.md about all commands that are here, too.
SECTIONS = ("Exit codes", "Processes that do not answer")
SEE_ALSO = ("pmap(1)", "proc_pid_pagemap(5)", "proc_pid_smaps(5)", "capabilities(7)")


def page() -> Iterator[str]:
    """Yield the lines of the page, in the man macros of roff."""
    yield '.\\" Made by `make manual`, from what --help says. Do not edit it.'
    yield '.TH FASTPAGEMAP 1 "" "fastpagemap" "User Commands"'
    (_, (first, *_)), *others = paragraphs(cli)
    yield from (".SH NAME", f"fastpagemap \\- {escaped(first[0].lower() + first[1:].rstrip('.'))}")
    yield from (".SH SYNOPSIS", ".B fastpagemap", "[COMMAND] [OPTION]... [TARGET]...")
    yield ".SH DESCRIPTION"
    yield from text(others)
    yield ".SH COMMANDS"
    for title, command in commands():
        yield f".SS {escaped(title)}"
        yield from text(paragraphs(command))
        for names, what in options_of(command):
            bold = (f"\\fB{escaped(name)}\\fR" for name in names)
            yield from (".TP", ", ".join(bold), line(what))
    for title in SECTIONS:
        yield f".SH {title.upper()}"
        told = FORMATS.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        yield from text((False, each.splitlines()) for each in told.strip().split("\n\n"))
    yield from (".SH SEE ALSO", ", ".join(map(escaped, SEE_ALSO)))


def text(parts: Iterable[tuple[bool, list[str]]]) -> Iterator[str]:
    """Yield paragraphs; those of code keep their lines."""
    for is_code, lines in parts:
        if is_code:
            yield from (".PP", ".nf", ".RS 2n", *map(line, lines), ".RE", ".fi")
        else:
            yield from (".PP", *map(line, lines))


def line(written: str) -> str:
    """Return a line of text: it begins no request, and code in backquotes is bold."""
    found = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", escaped(written))
    return f"\\&{found}" if found.startswith(".") else found


def escaped(written: str) -> str:
    """Return a text of which roff changes no character."""
    return written.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")


if __name__ == "__main__":
    print("\n".join(page()))
