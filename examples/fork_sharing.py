"""Copy-on-write after fork: what workers still share with their parent, and what they do not.

    python examples/fork_sharing.py PID              # a parent and its workers
    python examples/fork_sharing.py --demo           # see it happen, to mappings and to objects
    python examples/fork_sharing.py --demo --freeze  # with gc.freeze() before the fork

fork() copies no memory: parent and child map the same pages until one of them writes to a page, and
gets a copy. A heap that is loaded before the fork costs its RAM once, as long as nobody writes. But
CPython writes where a program only reads: the reference count is part of the object.

By process it is told by `Group`, which counts frames (root) or adds up smaps; the last line has all
of them together. By mapping it is told by bit 56 of a page's entry: it is mapped exactly once.

    after the fork       parent and workers map the page        `shared`
    a worker writes      its copy is mapped once                `own` there, elsewhere `shared`
    all but one wrote    one mapping is left of the first page  `own` there, too

So what is `own` in a worker is what it has copied, or touched first since. Beware:

- The bit counts mappings, not processes; a page stays `shared` as long as anyone maps it too.
- Of a huge page that is mapped whole, the first page's count tells for all 512: right after the
  fork, but coarse once a part of it is mapped elsewhere.
- The zero page, where memory was read but never written, counts for neither; nor does swap.
- The processes are looked at one after the other, and go on meanwhile.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import itertools
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, NoReturn

from fastpagemap import Category, Group, Mapping, PageMap, capabilities


def fail(message: str) -> NoReturn:
    """End with one line, not with a traceback."""
    sys.stderr.write(f"fork_sharing: {message}\n")
    sys.exit(1)


try:
    import click
    from rich.console import Console
    from rich.table import Table

    from fastpagemap.report.tables import human, printable
except ModuleNotFoundError as error:
    fail(f"{error.name} is not installed: pip install click rich")

WIDTH_IN_A_PIPE = 110
ZERO = Category.PFNZERO
CAN_TELL_ZERO = ZERO in capabilities().categories


class Part(NamedTuple):
    """Bytes in RAM: mapped by someone else as well, or mapped only here."""

    shared: int
    own: int


NOTHING = Part(0, 0)
NEW = "(new in the worker)"


class Sight(NamedTuple):
    """A parent and its workers at one time: for each of the parent's mappings, what each has."""

    parent: int
    parts: dict[int, dict[str, Part]]  # by pid, then by name of the mapping
    strangers: list[int]  # children that have called exec: they share no heap
    sizes: dict[int, tuple[int, int, int]]  # by pid: rss, pss, uss
    together: dict[str, int]  # what Group.total() says


def private(mapping: Mapping) -> bool:
    """Whether writing to the mapping makes copies; mappings of mere code and constants left out."""
    return not mapping.shared and (mapping.writable or mapping.anonymous)


def measure(pm: PageMap, mappings: Sequence[Mapping]) -> list[Part]:
    """Return what of each private mapping is shared with others, and what is not."""
    usage = pm.usage(mappings, fields=("present", "exclusive")).tolist()
    parts = []
    for mapping, (present, exclusive) in zip(mappings, usage, strict=True):
        shared = present - exclusive
        parts.append(Part(max(shared - zero_pages(pm, mapping), 0) if shared else 0, exclusive))
    return parts


def zero_pages(pm: PageMap, mapping: Mapping) -> int:
    """Return how much of a mapping is the zero page (before Linux 6.7 it counts as shared)."""
    if not CAN_TELL_ZERO:
        return 0
    runs = pm.regions(mapping.start, mapping.end, mask=ZERO, returns=ZERO)
    return int((runs["end"] - runs["start"]).sum())


def look(pid: int) -> Sight:
    """Look at a process and at all that were forked below it."""
    with Group.tree(pid) as group:
        rows, total = group.usage(), group.total()
    sizes = {row["pid"].item(): tuple(row[["rss", "pss", "uss"]].tolist()) for row in rows}
    together = dict(zip(total.dtype.names, total.tolist(), strict=True))
    with PageMap(pid) as pm:
        mappings = pm.mappings()
        heap = [mapping for mapping in mappings if private(mapping)]
        parts = {pid: collect(map(name, heap), measure(pm, heap))}
    strangers = []
    for child in sorted(sizes.keys() - {pid}):
        # one that has ended meanwhile is no worker any more
        with contextlib.suppress(ProcessLookupError), PageMap(child) as pm:
            theirs = pm.mappings()
            if vdso(theirs) != vdso(mappings):
                strangers.append(child)
                continue
            own = [mapping for mapping in theirs if private(mapping)]
            places = (place(each, heap) for each in own)
            parts[child] = collect(places, measure(pm, own))
    return Sight(pid, parts, strangers, sizes, together)


def vdso(mappings: list[Mapping]) -> int | None:
    """Return where the vDSO is: fork keeps it there, exec puts it at an address of chance."""
    return next((each.start for each in mappings if each.path == "[vdso]"), None)


def place(mapping: Mapping, parents: list[Mapping]) -> str:
    """Return the name of the parent's mapping that this is, or was before either grew."""
    at = bisect.bisect_left(parents, mapping.end, key=lambda each: each.start) - 1
    return name(parents[at]) if at >= 0 and mapping.start < parents[at].end else NEW


def name(mapping: Mapping) -> str:
    """Return the address of a mapping, and what it is of."""
    what = os.path.basename(mapping.path) or human(mapping.end - mapping.start)
    return f"{mapping.start:012x} {what}"


def collect(names: Iterable[str], parts: list[Part]) -> dict[str, Part]:
    """Sum by name."""
    answer: dict[str, Part] = {}
    for each, part in zip(names, parts, strict=True):
        answer[each] = total([answer.get(each, NOTHING), part])
    return answer


def total(parts: Iterable[Part]) -> Part:
    """Return the sum of parts."""
    return Part(*map(sum, zip(NOTHING, *parts, strict=True)))


def by_process(now: Sight, first: Sight) -> Table:
    """Return a table with a line for each process, and one for all of them together."""
    columns = [name for name in ("rss", "pss", "union", "unique") if name in now.together]
    table = Table("process", title="All memory, by process")
    for column in (*columns, "uss", "change"):
        table.add_column(column, justify="right")
    for pid, (rss, pss, uss) in now.sizes.items():
        role = "parent" if pid == now.parent else "other" if pid in now.strangers else "worker"
        before = first.sizes.get(pid, (0, 0, 0))[2]
        sizes = [human(rss), human(pss), *[""] * (len(columns) - 2), human(uss)]
        table.add_row(f"{role} {pid}", *sizes, change(uss - before))
    table.add_section()
    table.add_row("together", *(human(now.together[name]) for name in columns))
    if "unique" in columns:
        table.caption = "union: each page once; unique: of that, what nobody else maps"
    return table


def by_mapping(now: Sight, first: Sight, limit: int) -> Table:
    """Return a table with a line for each mapping, those first that have most in RAM."""
    table = Table("mapping of the parent", title="By mapping")
    for column in ("shared", "own", "workers' own", "most in one", "change of all"):
        table.add_column(column, justify="right")
    mine = now.parts[now.parent]
    workers = {pid: parts for pid, parts in now.parts.items() if pid != now.parent}
    rows = []
    for each in dict.fromkeys([*mine, *itertools.chain(*workers.values())]):
        own = [parts.get(each, NOTHING).own for parts in workers.values()]
        before = sum(first.parts.get(pid, {}).get(each, NOTHING).own for pid in workers)
        sizes = (*mine.get(each, NOTHING), sum(own), max(own, default=0))
        rows.append((max(sum(sizes[:2]), sizes[3]), sizes, sum(own) - before, each))
    rows.sort(reverse=True)
    for _, sizes, grown, each in rows[:limit]:
        table.add_row(printable(each), *map(human, sizes), change(grown))
    if rows[limit:]:
        table.caption = f"and {len(rows) - limit} more"
    return table


def change(size: int) -> str:
    """Return a size with its sign."""
    return f"{'+' if size > 0 else '-'}{human(abs(size))}" if size else ""


def watch(pid: int, interval: float, count: int, limit: int) -> Iterator[Table | str]:
    """Yield tables, again and again, until the parent ends or `count` times."""
    first = now = look(pid)
    started = time.monotonic()
    while True:
        passed = time.monotonic() - started
        yield f"\nprocess {pid} and {len(now.parts) - 1} workers, after {passed:.1f} s"
        yield by_process(now, first)
        yield by_mapping(now, first, limit)
        count -= 1
        if not count:
            return
        time.sleep(interval)
        try:
            now = look(pid)
        except ProcessLookupError:
            yield f"process {pid} has ended"
            return


@click.command()
@click.argument("pid", required=False, type=click.IntRange(1))
@click.option("--interval", default=2.0, type=click.FloatRange(0.01, 1e6), help="Seconds between.")
@click.option("--count", default=0, type=click.IntRange(0), help="So many times; else for ever.")
@click.option("--limit", default=10, type=click.IntRange(1), help="Mappings shown.")
@click.option("--demo", is_flag=True, help="Fork two workers, and see what they do.")
@click.option("--freeze", is_flag=True, help="In the demo, call gc.freeze() before the fork.")
def main(
    pid: int | None, interval: float, count: int, limit: int, demo: bool, freeze: bool
) -> None:
    """Show what the children of process PID still share with it, and what each has for itself."""
    if demo == (pid is not None) or (freeze and not demo):
        raise click.UsageError("either a PID, or --demo with or without --freeze")
    if math.isnan(interval):
        raise click.UsageError("nan is no interval")  # click takes it to be in any range
    width = None if sys.stdout.isatty() else WIDTH_IN_A_PIPE
    console = Console(width=width, highlight=False, markup=False)
    try:
        if pid is not None:
            tables = watch(pid, interval, count, limit)
        else:
            from fork_demo import run

            draw = functools.partial(by_mapping, limit=limit)
            tables = run(freeze, functools.partial(look, os.getpid()), draw)
        for table in tables:
            console.print(table)
    except BrokenPipeError:  # of `| head`: click ends quietly
        raise
    except OSError as error:
        fail(str(error))


if __name__ == "__main__":
    main()
