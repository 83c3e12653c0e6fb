"""``fastpagemap dump``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import click

from fastpagemap.cli import targets
from fastpagemap.cli.completion import complete_file, complete_target
from fastpagemap.cli.options import Raw, output_path, raw_options, timeout_option


@click.command(
    short_help="Save the state of all pages to a file that every command takes.",
    epilog="""
\b
Examples:
  fastpagemap dump 1234 -o before.fpm
  fastpagemap report before.fpm --sort swapped    what was in it, on any machine
  fastpagemap map before.fpm -o before.png
  fastpagemap diff before.fpm 1234                what has changed since
  fastpagemap dump 1234 -o - | ssh host fastpagemap report -
  fastpagemap dump entries --raw --start 7f0000000000 --maps maps -o entries.fpm
""",
)
@click.argument("target", shell_complete=complete_target)
@click.option(
    "-o", "--output", metavar="FILE", required=True, callback=output_path,
    shell_complete=complete_file, help="The file to write; '-' is standard output.",
)  # fmt: skip
@raw_options
@timeout_option
def dump(target: str, output: str, raw: Raw, timeout: float) -> Iterable[str]:
    """Save what is known of TARGET's memory to a file that every command takes in place of a PID.

    TARGET is a process id, or the name of a process.

    The file has the mappings, the state of every page, when it was made, on which kernel, and what
    that kernel could answer. It also has the name and the command line of the process, in which
    there may be secrets. It has no other content of memory. It is small, a few kilobytes for most
    processes, because pages with the same state are stored as runs. A file from a stranger is safe
    to open.
    """
    return _dump(target, output, raw, timeout)


def _dump(target: str, output: str, raw: Raw, timeout: float) -> Iterator[str]:
    from fastpagemap.report.text import human, plural, printable
    from fastpagemap.snapshot.replace_file import replace_file

    found = targets.snapshot(target, raw, timeout)
    with replace_file(output, found.uid) as file:
        found.save(file)
        size = file.tell() if file.seekable() else 0
        on_stdout = os.path.samestat(os.fstat(file.fileno()), os.fstat(1))
    if on_stdout:  # another line would become part of the file
        return
    whose = f"process {found.pid} {found.name}" if found.pid else "entries"
    mapped = human(sum(mapping.end - mapping.start for mapping in found.mappings))
    count = len(found.mappings)
    about = f"{mapped} in {count} {plural(count, 'mapping')}"
    yield printable(f"{output}: {whose}, {about}; {human(size)}")
