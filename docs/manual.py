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
| `format` | int | 1; it grows when a reader of the old format would fail |
| `pid`, `name` | int, string | the process; null with `--all`, for several processes, or where it is not known |
| `time` | string | when the memory was read, in ISO 8601, UTC |
| `kernel`, `page_size` | string, int | the release of the kernel, and bytes per page |
| `snapshot` | bool | whether the rows are from a file |
| `rows_are` | string | `mapping`, `process`, `path` or `kind`; `member` for several processes counted together; `sharer` with `--who` |
| `totals` | object | the sum of each column of sizes, over the rows that are shown |
| `together` | object | for several processes: what they have together, as in `Group.total`, whichever rows are shown; with `--who`: `overlap`, how much of the process's memory any other process maps |
| `of` | int | where `together` is about more rows than are shown: of how many |
| `only` | array | with `--path`, `--name`, `--user`, `--filter` and `--min`: the conditions |
| `ended` | array | for several processes: the pids of those that are left out because they have ended or have no memory |
| `mapped` | int | with `--who`: what the process maps, each page once |
| `unreadable` | array | `pid`, `name` and `reason` of each process that could not be read |
| `rows` | array | one object for each row |

A row has the columns of `PageMap.usage`, unsigned 64-bit numbers in bytes: `size`, `present`,
`swapped`, `swapped_shared`, `unknown`, `shared`, `exclusive`, `soft_dirty`, `huge`, `zero`; with
`--columns`, only the named ones. A `member` has the columns of `Group.usage`. A `sharer` has `overlap`,
which is what both processes map, and `mapped`, which is what it maps itself, each page once. A column
that the kernel cannot fill, or that this user may not see, is absent. Each kind of row also has these
columns:

| `rows_are` | columns |
| --- | --- |
| `mapping` | `start`, `end` (addresses), `permissions`, `offset`, `device` (as `st_dev`), `inode`, `kind`, `path` |
| `process` | `pid`, `user`, `parent` (its pid), `threads` and `mappings` (how many), `name`, `command` (the beginning of its command line) |
| `path`, `kind` | `mappings` (how many), and `path` or `kind` |
| `member`, `sharer` | `pid`, `name`, `command` |

`diff --json` has the same keys. Its rows have the bytes of each change in place of the columns of
`usage`. `before` says what was compared with, and `same_process` whether both are of one process.
`mapped` is the bytes that are newly mapped, and `unmapped` the bytes that are no longer mapped.

`report --swap --json` has `format`, `time`, `kernel`, `page_size`, `unreadable`, and these keys:

| key | what |
| --- | --- |
| `rows` | for each process: `pid`, `name`, `private`, `shared`, `pss`, `uss` and `unknown` |
| `unmapped` | for each file that no process maps: `path`, `swapped`, and `pid` of a process that holds it open, or 0 |
| `in_processes`, `in_unmapped` | the sums of these two lists, each place in swap once |
| `used_before`, `used` | the swap in use, before and after the reading |
| `unexplained` | what is left of the lesser of the two; 0 if more was found |
| `cached` | the swap cache, as in `/proc/meminfo` |
| `notes` | what was not looked at |

`files --json` has `format`, `time`, `kernel`, `page_size`, `unreadable`, and these keys:

| key | what |
| --- | --- |
| `files` | for each file: `path`, `size`, `allocated`, `cached`, `dirty` and `writeback` (null where the kernel does not tell), `swapped` (null for a file that is not shared memory), and `processes`: `pid`, `name`, `mapped` and `present` of each |
| `refused` | for each file that could not be asked: its `path`, and the `reason` |

CSV has the same columns, with a header. Parquet has one schema on every kernel. Its metadata has, under
`fastpagemap`, what JSON has above `rows`, as JSON. A column that cannot be filled is null. Parquet has
these columns before those of JSON:

| column | type | what |
| --- | --- | --- |
| `host`, `boot_id` | string | the name of the host, and the kernel's random id of this boot; null for a snapshot |
| `since`, `time` | timestamp, microseconds, UTC | when the first rows of the file were read, and when this row was; the same in a report |
| `uptime` | double | the same as `time`, in seconds since boot, by a clock that nobody sets; null for a snapshot |
| `pid`, `start_time` | int64 | the process, and when it was started, in clock ticks since boot, as in /proc/PID/stat; no other process has the same `boot_id`, `pid` and `start_time` |
| `cgroup` | string | the control group to which its memory is charged; null for members, sharers and snapshots |
| `name` | string | the process |

Rows of mappings and processes have all sizes. `pss`, `uss`, `cached`, `cache_dirty` and
`cache_writeback` are null unless `--columns` names them. Sizes and counts are int64, so that the
difference of two may be negative. Addresses, `offset`, `device` and `inode` are uint64.

Other users choose names and paths, and they may hold any character:

| format | names and paths |
| --- | --- |
| JSON | as they are; bytes that are not UTF-8 are lone surrogates (`os.fsencode` gives them back) |
| Parquet | as they are; a byte that is not UTF-8 is an escape such as `\\xff` |
| CSV | escaped as in the tables: control characters, newlines, invisible characters, those that change the direction of writing, and bytes that are not UTF-8. A spreadsheet would calculate what begins with `=`, `+`, `-` or `@`. So an apostrophe is put before these, and before what begins with an apostrophe |

In pandas, `frame["path"].str.replace("^'", "", regex=True)` takes the apostrophes away.
Only JSON and Parquet have the original text of what is escaped in CSV.

## Exit codes

| code | when |
| --- | --- |
| 0 | success |
| 1 | failure |
| 2 | misuse |
| 130 | Ctrl-C |
| 141 | the reader of the output went away |

A failure is one line on stderr. It says what to do, where that is known.

`report --all`, and `report` of several processes, end with 0 if they could read any process. stderr and
`unreadable` say how many processes they could not read, and which. `files` ends with 0 if any file
could be asked.

## Processes that do not answer

A process can keep its memory locked for as long as it wants. Its readers then wait in the kernel. So
each command reads a process from a child of its own. If the child does nothing but wait for `--timeout`
seconds, the command gives up the process. `report --all` and `report` of several processes go on with
the next one. The other commands fail, and say so.

Work is not waiting: reading a terabyte may take longer than `--timeout`, but at most 24 times as long.
If several processes do not answer, those after the first four get a twentieth of the time.

If memory of a group is in swap, all other processes are searched for the same places. If one of them
does not answer, the columns `swapped_unique`, `swapped_pss` and `swapped_uss` are absent.

A child may use half of the memory that is available when it begins. A process that would need more
counts as one that does not answer.
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
