"""``fastpagemap dirty``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import click

from fastpagemap.cli import asking, targets
from fastpagemap.cli.completion import complete_target
from fastpagemap.cli.options import timeout_option

WARNING = (
    "this clears the soft-dirty bits of process {pid}: whoever else tracks it by them (CRIU's "
    "pre-dump) loses what was written until now, and each page faults once more when it is "
    "written next"
)


@click.command(
    short_help="How much is written, by soft-dirty bits; clears them.",
    epilog="""
\b
Examples:
  fastpagemap dirty 1234 --yes                  a line every second, until Ctrl-C
  fastpagemap dirty checkpointer --interval 5 --count 12
  fastpagemap dirty 1234 --yes --count 60 --json | jq .rate
""",
)
@click.argument("target", shell_complete=complete_target)
@click.option(
    "--interval",
    type=click.FloatRange(0.01, 86400),
    metavar="SECONDS",
    default=1.0,
    show_default=True,
    help="How long each line is about.",
)
@click.option(
    "--count", type=click.IntRange(1), metavar="N", help="Stop after N lines; on Ctrl-C, if absent."
)
@click.option("--yes", is_flag=True, help="Do not ask before the bits are cleared.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line, in bytes.")
@timeout_option
def dirty(
    target: str, interval: float, count: int | None, yes: bool, as_json: bool, timeout: float
) -> Any:
    """Show how much memory process TARGET writes, and where, by the kernel's soft-dirty bits.

    TARGET is a process id, or the name of a process.

    It CHANGES the process it looks at: to know what is written from now on, the bits are cleared
    (4 is written to /proc/PID/clear_refs), for everyone who tracks the process by them, such as
    CRIU. So it asks first, or needs --yes. The process itself notices only that each page faults
    once when it is written next.

    A page written many times within an interval counts once; what is written in the moment between
    reading and clearing is missed; one write to a huge page counts for all of it. Needs a kernel
    with CONFIG_MEM_SOFT_DIRTY ('fastpagemap doctor' shows it).
    """
    return _dirty(target, interval, count, yes, as_json, timeout)


def _dirty(
    target: str, interval: float, count: int | None, yes: bool, as_json: bool, timeout: float
) -> Iterator[str]:
    from fastpagemap.process.capabilities import need_soft_dirty

    pid = targets.resolve(target)
    if not isinstance(pid, int):
        raise click.UsageError("a snapshot is not written to: give a process id or a name")
    need_soft_dirty()
    writes = asking.Remote(partial(_Writes, pid), timeout)
    try:
        with asking.naming(pid):
            writes.call("open")
            _confirm(pid, yes)
            lines = _as_json if as_json else _as_text
            yield from lines(_samples(writes, interval, count))
    finally:
        writes.close()


class _Writes:
    """What is written by a process; used in a worker."""

    def __init__(self, pid: int) -> None:
        from fastpagemap.pagemap import PageMap

        self._pagemap = PageMap(pid)

    def open(self) -> None:
        """Do nothing: the process is held open once this has been made."""

    def clear(self) -> None:
        """Clear the soft-dirty bits."""
        self._pagemap.clear_soft_dirty()

    def since(self) -> dict[str, int]:
        """Return the bytes that were written, by path, since this was called; clear the bits."""
        mappings = self._pagemap.mappings()
        runs = self._pagemap.states(mappings)
        self._pagemap.clear_soft_dirty()
        return _written(mappings, runs)


def _confirm(pid: int, yes: bool) -> None:
    warning = WARNING.format(pid=pid)
    if yes:
        click.echo(f"fastpagemap: {warning}", err=True)
    elif sys.stdin is not None and sys.stdin.isatty():
        click.confirm(f"{warning}. Go on?", abort=True, err=True)
    else:
        raise click.UsageError(f"{warning}; to go on, say --yes")


def _samples(
    writes: asking.Remote, interval: float, count: int | None
) -> Iterator[tuple[float, float, dict[str, int]]]:
    """Yield, for each interval, when it ended, its seconds, and the bytes written by path."""
    writes.call("clear")
    began = time.monotonic()
    number = 0
    while count is None or number < count:
        if sys.stdout is not None:
            sys.stdout.flush()  # a pipe would hold back lines until its buffer is full
        time.sleep(interval)
        written = writes.call("since")
        now = time.monotonic()
        yield time.time(), now - began, written
        began, number = now, number + 1


def _written(mappings: Any, runs: Any) -> dict[str, int]:
    """Return the bytes that were written, by path, the largest first.

    Only present and swapped pages count: in a new mapping, pages that were never touched are
    soft-dirty, too.
    """
    import numpy as np

    from fastpagemap.model.runs import State, has_any

    there = has_any(runs["state"], State.PRESENT | State.SWAPPED)
    dirty = runs[there & has_any(runs["state"], State.SOFT_DIRTY)]
    starts = np.array([mapping.start for mapping in mappings], np.uint64)
    rows = np.searchsorted(starts, dirty["start"], "right") - 1
    sums: dict[str, int] = {}
    for row, size in zip(rows.tolist(), (dirty["end"] - dirty["start"]).tolist(), strict=True):
        path = mappings[row].path
        sums[path] = sums.get(path, 0) + size
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def _as_text(samples: Iterable[tuple[float, float, dict[str, int]]]) -> Iterator[str]:
    from fastpagemap.report.text import human, name_of

    yield "time      written  per second  where"
    for at, seconds, sums in samples:
        total = sum(sums.values())
        clock = time.strftime("%H:%M:%S", time.localtime(at))
        where = ", ".join(f"{name_of(path)} {human(size)}" for path, size in [*sums.items()][:4])
        more = f" and {len(sums) - 4} more" if len(sums) > 4 else ""
        rate = human(round(total / seconds))
        yield f"{clock}  {human(total):>7}  {rate:>10}  {where}{more}".rstrip()


def _as_json(samples: Iterable[tuple[float, float, dict[str, int]]]) -> Iterator[str]:
    import json

    for at, seconds, sums in samples:
        total = sum(sums.values())
        yield json.dumps(
            {
                "time": at,
                "seconds": seconds,
                "written": total,
                "rate": total / seconds,
                "paths": sums,
            }
        )
