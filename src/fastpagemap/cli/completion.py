"""What a shell may complete a target to.

Any user can start a process with any name. The scripts that click prints for shells put names on
the command line as they are, and split what they get at newlines and commas. So only names that
are plain words to every shell are offered. A process with another name is reached by its pid.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import click

from fastpagemap.cli.processes import has_memory, name_of, processes

# To be used with fullmatch(): '$' would let a newline at the end pass. ASCII letters are spelled
# out because \w has many more. '@' and ':' are not in it because bash splits words at them.
_PLAIN_WORD = re.compile("[A-Za-z0-9_][A-Za-z0-9_.+-]*")
# Neither click's scripts nor fish's own functions take these apart or act upon them.
_PLAIN_PATH = re.compile(r"[\w ./~+@:=%-]*")


def is_offered(name: str) -> bool:
    """Return whether the name of a process may be put on a command line as it is.

    Digits alone are a pid: such a name would stand for another process.
    """
    return bool(_PLAIN_WORD.fullmatch(name)) and not name.isdecimal()


def complete_target(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Return what a shell may complete a target to: names of processes, and files.

    A name that a shell would act upon is not offered: a pid reaches its process.
    """
    from click.shell_completion import CompletionItem

    names = set()
    with contextlib.suppress(OSError):  # there is no /proc here
        names = {name_of(pid) for pid in processes() if has_memory(pid)}
    fitting = sorted(
        name for name in names if incomplete and name.startswith(incomplete) and is_offered(name)
    )
    # the file first: bash forgets what came before it
    return [*complete_file(ctx, parameter, incomplete), *map(CompletionItem, fitting)]


def complete_one_of(names: Sequence[str]) -> Callable[[Any, Any, str], list[str]]:
    """Return what completes a word to one of these names."""
    return lambda context, parameter, incomplete: [
        name for name in names if name.startswith(incomplete)
    ]


def complete_list_of(names: Sequence[str]) -> Callable[[Any, Any, str], list[str]]:
    """Return what completes the last of several names with commas between them."""

    def complete(context: Any, parameter: Any, incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        given = before.split(",")
        if not set(given) <= {*names, ""}:  # part of an answer has to be plain
            return []
        return [
            f"{before}{comma}{name}"
            for name in names
            if name.startswith(last) and name not in given
        ]

    return complete


def script_for(shell: str, command: click.Command) -> str:
    """Return the script that completes a command in a shell.

    click's for fish cuts a word at its first comma.
    """
    from click.shell_completion import get_completion_class

    maker = get_completion_class(shell)
    assert maker is not None
    source: str = maker(command, {}, "fastpagemap", "_FASTPAGEMAP_COMPLETE").source()
    return source.replace('string split ","', 'string split --max 1 ","')


def complete_file(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Return what has a shell complete a word to the names of files, which it finds itself.

    Only fish reads the text of this item, to know where to look. The text may be part of a file
    name that a stranger chose, so only its plain beginning is given, which click.Path does not do:
    fish drops the files that do not fit the word.
    """
    from click.shell_completion import CompletionItem

    beginning = _PLAIN_PATH.match(incomplete)
    assert beginning is not None
    return [CompletionItem(beginning[0], type="file")]
