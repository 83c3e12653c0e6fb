"""Print docs/cli.md, from the same source as ``--help``: ``make manual`` writes it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from fastpagemap.cli.group import cli

FORMATS = """
## JSON, CSV and Parquet

`report --json` prints one object. All sizes and addresses are in bytes.

| key | type | what |
| --- | --- | --- |
| `format` | int | 1; it grows when a reader of the old one would stumble |
| `pid`, `name` | int, string | the process; null with `--all` and of several, or where it is not known |
| `time` | string | when, ISO 8601, UTC |
| `kernel`, `page_size` | string, int | where |
| `snapshot` | bool | whether it is from a file |
| `rows_are` | string | `mapping`, `process`, `path` or `kind`; of several processes counted together `member`, with `--who` `sharer` |
| `totals` | object | the sum of each column of sizes, over the rows that are shown |
| `together` | object | of several processes: what they have together, as `Group.total` says, whichever rows are shown; with `--who`: `overlap`, what of the process any other maps |
| `of` | int | with `-n`: how many rows there are; `together` has the sums of all |
| `only` | array | with `--filter` and `--min`: the conditions |
| `ended` | array | of several processes: the pids of those that are left out, as they have ended or have no memory |
| `mapped` | int | with `--who`: what the process maps, each page once |
| `unreadable` | array | with `--all`, and of several processes: `pid`, `name` and `reason` of each process that could not be read |
| `rows` | array | an object a row |

A row has the columns of `PageMap.usage`, unsigned 64-bit numbers in bytes: `size`, `present`,
`swapped`, `swapped_shared`, `unknown`, `shared`, `exclusive`, `soft_dirty`, `huge`, `zero`; with
`--columns` the named ones alone. A `member` has those of `Group.usage`; a `sharer` has `overlap`,
what both processes map, and `mapped`, what it maps, each page once. A column that the kernel cannot
fill, or that this user may not see, is absent. Beside them it has, by what rows are:

| `rows_are` | columns |
| --- | --- |
| `mapping` | `start`, `end` (addresses), `permissions`, `offset`, `device` (as `st_dev`), `inode`, `kind`, `path` |
| `process` | `pid`, `user`, `parent` (its pid), `threads` and `mappings` (how many), `name`, `command` (the beginning of its command line) |
| `path`, `kind` | `mappings` (how many), and `path` or `kind` |
| `member`, `sharer` | `pid`, `name`, `command` |

`diff --json` has the same, and in the rows the bytes of each change in place of the columns of
`usage`; `before` says what was compared with, `same_process` whether both are of one process,
`mapped` and `unmapped` the bytes that are newly mapped, and not any more.

`report --swap --json` has `time`, `kernel`, `page_size`, and `rows`, for each process `pid`, `name`, `private`, `shared`, `pss`, `uss`
and `unknown`; `unmapped`, for each file that no process maps `path`, `swapped` and `pid` (of a process
that holds it open, or 0); the sums `in_processes`, `in_unmapped`, `used`, `used_before` (the same when
the reading began), `unexplained` (of the lesser of these; 0 if more was found) and `cached`; `notes` on what was not looked at, and `unreadable`.

`files --json` has `time`, `kernel`, `page_size`, and `files`, for each `path`, `size`, `allocated`, `cached`, `dirty`, `writeback` and
`swapped` (null where the kernel does not tell), and `processes`: `pid`, `name`, `mapped`, `present`;
`refused`, the `path` of each file that could not be asked, and the `reason`; and `unreadable`.

CSV has the same columns, with a header. Parquet has one schema on every kernel, and what JSON has
above `rows` as JSON in its metadata, under `fastpagemap`. A column that cannot be filled is null. Beside
those of JSON it has, in front:

| column | type | what |
| --- | --- | --- |
| `host`, `boot_id` | string | the name of the host, and what its kernel makes anew at each boot; null of a snapshot |
| `since`, `time` | timestamp, microseconds, UTC | when the first rows of the file were read, and when this one; a report has one time |
| `uptime` | double | the same as `time`, in seconds since boot, by a clock that nobody sets; null of a snapshot |
| `pid`, `start_time` | int64 | the process; and when it was started, in clock ticks since boot, as in /proc/PID/stat: (`boot_id`, `pid`, `start_time`) is never that of another process |
| `cgroup` | string | the control group that its memory counts in; null of members, sharers and snapshots |
| `name` | string | the process |

Of mappings and processes it has all sizes, also `pss`, `uss`, `cached`, `cache_dirty` and
`cache_writeback`, which are null unless `--columns` names them. Sizes and counts are int64, so that the
difference of two may be negative; addresses, `offset`, `device` and `inode` are uint64.

Other users choose names and paths, and they may hold any character:

| format | names and paths |
| --- | --- |
| JSON | as they are; bytes that are not UTF-8 are lone surrogates (`os.fsencode` gives them back) |
| Parquet | as they are; bytes that are not UTF-8 are `\\xff` |
| CSV | escaped as in the tables: control characters, newlines, what changes the direction of writing or shows nothing, bytes that are not UTF-8. What a spreadsheet would calculate, as it begins with `=`, `+`, `-` or `@`, has an apostrophe before it, and so has what begins with an apostrophe |

In pandas, `frame["path"].str.replace("^'", "", regex=True)` takes the apostrophes away; what was
escaped is as it was only in JSON and Parquet.

## Exit codes

0, or 1 for a failure, 2 for misuse, 130 after Ctrl-C, 141 when the reader of the output went away.
A failure is one line on stderr, which says what to do where that is known.

`report --all`, and `report` of several processes, end with 0 although some could not be read: how
many, and which, is on stderr and in `unreadable`. They end with 1 if none could be read.
`files` ends with 0 if any file could be asked.

## Processes that do not answer

A process can keep its memory locked, for as long as it wants: whoever looks at it then waits in the
kernel. So each command reads a process from a child of its own. After `--timeout` seconds in which
the child did nothing but wait, the process is given up: `report --all` goes on with the next one,
and so does `report` of several processes; the other commands fail, and say so. Where memory of a
group is in swap, that is looked for in all other processes: if one of them does not answer, there
is no `swapped_unique`, nor `swapped_pss` and `swapped_uss`. Work is not waiting: reading a terabyte may take longer than
that, but no more than 24 times as long. If several processes do not answer, those after the first
four are given a twentieth of the time.

A child has half of the memory that is available when it begins. A process that would need more is
noted like one that does not answer.
"""  # noqa: E501


def manual() -> Iterator[str]:
    """Yield the lines of the page."""
    yield "# The command line"
    yield ""
    yield "<!-- Made by `make manual`, from what --help says. Do not edit it. -->"
    yield ""
    yield "`fastpagemap COMMAND --help` and `man fastpagemap` show the same."
    yield ""
    yield from _text(cli)
    for title, command in commands():
        yield f"## {title}"
        yield ""
        yield from _text(command)
        options = options_of(command)
        if options:
            yield "| option | |"
            yield "| --- | --- |"
            yield from (_row(*option) for option in options)
            yield ""
    yield from FORMATS.strip().splitlines()


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield each command, and before it how it is called, without its options."""
    context = click.Context(cli, info_name="fastpagemap")
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        if command is not None:
            arguments = [_argument(a) for a in command.params if isinstance(a, click.Argument)]
            yield " ".join(["fastpagemap", name, *arguments]), command


def _argument(argument: click.Argument) -> str:
    name = argument.metavar or (argument.name or "").upper()
    if argument.nargs == -1:
        return name
    return name if argument.required else f"[{name}]"


def options_of(command: click.Command) -> list[tuple[list[str], str]]:
    """Return the options of a command: their names, each with its value, and what they do."""
    return [_option(each) for each in command.params if isinstance(each, click.Option)]


def _option(option: click.Option) -> tuple[list[str], str]:
    value = ""
    if not option.is_flag:
        metavar = "|".join(option.type.choices) if isinstance(option.type, click.Choice) else ""
        value = " " + (option.metavar or metavar or "N")
    default = f" Default: {option.default}." if option.show_default else ""
    return [f"{name}{value}" for name in option.opts], f"{option.help}{default}"


def paragraphs(command: click.Command) -> Iterator[tuple[bool, list[str]]]:
    """Yield the paragraphs of a command's help and examples, each with whether it is code."""
    text = inspect.cleandoc(command.help or "").split("\n\n")
    text += (command.epilog or "").strip("\n").split("\n\n")
    for paragraph in filter(None, text):
        lines = paragraph.removeprefix("\b\n").splitlines()
        if lines[0] == "Examples:":
            lines = [line.removeprefix("  ") for line in lines[1:]]
        yield paragraph.startswith("\b\n"), lines


def _row(names: list[str], text: str) -> str:
    first = ", ".join(f"`{name}`" for name in names)
    return " | ".join(["", *(cell.replace("|", "\\|") for cell in (first, text)), ""]).strip()


def _text(command: click.Command) -> Iterator[str]:
    """Yield a command's help, and its examples; what click is to leave as it is, as code."""
    for is_code, lines in paragraphs(command):
        fence = ["```"] if is_code else []
        yield from (*fence, *lines, *fence, "")


if __name__ == "__main__":
    print("\n".join(manual()))
