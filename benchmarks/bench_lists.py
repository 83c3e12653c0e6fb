"""What does a list of many rows cost in the live views, and in textual's own table?"""

import asyncio
import time
from collections.abc import Callable

import numpy as np
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widget import Widget
from textual.widgets import DataTable

from fastpagemap import RUN_DTYPE, Mapping
from fastpagemap.cli.watch.area import View
from fastpagemap.cli.watch.mappings import Mappings
from fastpagemap.cli.watch.sampling import DEFAULT_FIELDS, Sample
from fastpagemap.report.text import human
from lab import Rows, Scale, table

ROWS, REMOVED = 20_000, 100
COLUMNS = ("start", "perm", *DEFAULT_FIELDS, "path")
Step = Callable[[], object]


def run(scale: Scale) -> None:
    """Measure both with 20,000 mappings, in seconds of processor time."""
    mappings = [
        Mapping(at << 20, (at << 20) + 65536, "rw-p", 0, 0, 0, f"/file/{at}")
        for at in range(1, ROWS + 1)
    ]
    ours = asyncio.run(_measured(Mappings("mappings"), lambda it: _of_ours(it, mappings)))
    theirs = asyncio.run(_measured(DataTable(), lambda it: _of_theirs(it, mappings)))
    rows: Rows = [("", "watch", "DataTable")]
    rows += [(name, f"{ours[name]:.3f}", f"{theirs[name]:.3f}") for name in ours]
    table(f"a list of {ROWS:,} rows, seconds of processor time", rows)


async def _measured(widget: Widget, steps: Callable[..., dict[str, Step]]) -> dict[str, float]:
    class Shown(App[None]):
        def compose(self) -> ComposeResult:
            yield widget

    found = {}
    async with Shown().run_test(size=(120, 40)) as pilot:
        for name, step in steps(widget).items():
            found[name] = await _cost(step, pilot)
    return found


async def _cost(step: Step, pilot: Pilot[None]) -> float:
    began = time.process_time()
    step()
    await pilot.pause()
    return time.process_time() - began


def _of_ours(listing: Mappings, mappings: list[Mapping]) -> dict[str, Step]:
    numbers = iter(range(1, 100))

    def show(rows: list[Mapping]) -> None:
        number = next(numbers)
        usage = np.full(len(rows), 4096 * number, [(name, np.uint64) for name in DEFAULT_FIELDS])
        none = np.zeros(0, RUN_DTYPE)
        listing.show(Sample(rows, usage, none, View(), float(number), 0.0))

    return {
        "fill": lambda: show(mappings),
        "change every row": lambda: show(mappings),
        "sort": lambda: listing.order_by("present"),
        f"remove {REMOVED} rows": lambda: show(mappings[REMOVED:]),
    }


def _of_theirs(rows: DataTable[str], mappings: list[Mapping]) -> dict[str, Step]:
    def fill() -> None:
        for name in COLUMNS:
            rows.add_column(name, key=name, width=12)
        for m in mappings:
            sizes = human(m.end - m.start), "4Ki", "0"
            rows.add_row(f"{m.start:012x}", m.permissions, *sizes, m.path, key=m.path)

    def change() -> None:
        for m in mappings:
            rows.update_cell(m.path, "present", "8Ki")
            rows.update_cell(m.path, "swapped", "4Ki")

    def remove() -> None:
        for m in mappings[:REMOVED]:
            rows.remove_row(m.path)

    steps: dict[str, Step] = {"fill": fill, "change every row": change}
    return steps | {"sort": lambda: rows.sort("path"), f"remove {REMOVED} rows": remove}
