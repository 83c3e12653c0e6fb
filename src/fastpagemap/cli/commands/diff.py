"""``fastpagemap diff``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from fastpagemap.cli import targets
from fastpagemap.cli.completion import complete_target
from fastpagemap.cli.options import Raw, form_options, raw_options, timeout_option

if TYPE_CHECKING:
    from fastpagemap.snapshot.snapshot import Snapshot


@click.command(
    short_help="What was swapped out, faulted in, written since.",
    epilog="""
\b
Examples:
  fastpagemap diff before.fpm after.fpm
  fastpagemap diff before.fpm 1234                from then until now
  fastpagemap diff before.fpm after.fpm --group path
  fastpagemap diff before.fpm after.fpm --json | jq .totals
""",
)
@click.argument("before", shell_complete=complete_target)
@click.argument("after", shell_complete=complete_target)
@click.option(
    "--path",
    metavar="PATTERN",
    help="Only mappings whose path contains this text or matches this shell pattern.",
)
@click.option(
    "--group", type=click.Choice(["path", "kind"]), help="Add up the mappings of each path or kind."
)
@form_options
@raw_options
@timeout_option
def diff(
    before: str,
    after: str,
    path: str | None,
    group: str | None,
    form: str | None,
    raw: Raw,
    timeout: float,
) -> Iterable[str]:
    """Show what has changed from BEFORE to AFTER: one row for each mapping that has changed.

    BEFORE is a file that 'fastpagemap dump' wrote. AFTER is another one, or a process id or the
    name of a process, as it is now.

    \b
    swapped_out   was present, is in swap now
    faulted_in    was not present, is present now
    swapped_in    the part of faulted_in that was in swap
    dropped       was present or in swap, is neither now
    written       was not soft-dirty, is soft-dirty now (if the kernel keeps such bits)
    unshared      was mapped by others or a file's page, is this process's own now

    If a mapping is new or shows another file than before, its present pages count as faulted in. If
    a mapping is gone, its pages count as dropped.
    """
    return _diff((before, after), path, group, form, raw, timeout)


def _diff(
    pair: tuple[str, str],
    path: str | None,
    group: str | None,
    form: str | None,
    raw: Raw,
    timeout: float,
) -> Iterator[str]:
    from fastpagemap.cli import drawing
    from fastpagemap.report import selection
    from fastpagemap.report.report import of_diff
    from fastpagemap.report.text import printable

    if pair == ("-", "-"):
        raise click.UsageError("BEFORE and AFTER cannot both be standard input")
    if raw.maps == "-":
        raise click.UsageError("--maps - can be read once, and is needed for BEFORE and AFTER")
    old, new = (targets.snapshot(text, raw, timeout) for text in pair)
    if old.page_size != new.page_size:
        raise click.UsageError(
            f"pages of {pair[0]} are {old.page_size} bytes, of {pair[1]} {new.page_size}: "
            "they cannot be compared"
        )
    if old.time and new.time and old.time > new.time:
        text = (
            f"BEFORE is later than AFTER; 'fastpagemap diff {pair[1]} {pair[0]}' shows what changed"
        )
        click.echo(f"fastpagemap: {printable(text)}", err=True)
    found = of_diff(old.diff(new))
    if old.pid and new.pid and not found.more["same_process"]:
        whose = " and ".join(printable(f"{one.pid} {one.name}".rstrip()) for one in (old, new))
        click.echo(f"fastpagemap: these are not of the same process: {whose}", err=True)
    for text in _of_entries(pair, old, new):
        click.echo(f"fastpagemap: {printable(text)}", err=True)
    yield from drawing.lines(selection.select(found, selection.Selection(group, path)), form)


def _of_entries(pair: tuple[str, str], old: Snapshot, new: Snapshot) -> Iterator[str]:
    """Yield what is to be said where saved entries are compared with other memory than theirs."""
    if bool(old.pid) != bool(new.pid):
        of_entries, change = (pair[1], "dropped") if old.pid else (pair[0], "faulted in")
        yield f"{of_entries} is of saved entries: pages that are not among them count as {change}"
    elif not old.pid and old.mappings and new.mappings:
        # From which address to which entries were saved is not kept, only what is mapped there.
        shown = [(one.mappings[0].start, one.mappings[-1].end) for one in (old, new)]
        if shown[0] != shown[1]:
            whose = "; ".join(
                f"{name} shows {start:x}-{end:x}"
                for name, (start, end) in zip(pair, shown, strict=True)
            )
            yield (
                f"{whose}: pages that were saved for one of them alone count as dropped, or as "
                "faulted in"
            )
