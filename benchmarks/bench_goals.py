"""How fast is all that matters, beside its floor, and is it as fast as is wanted?"""

import shlex
import sys
from pathlib import Path

import goals.calls
import goals.layouts
import goals.polite
import goals.processes
import goals.snapshots
from goals.rows import grouped, markdown, replaced, rows, summary, where
from lab import Scale, load, table

PARTS = (goals.layouts, goals.processes, goals.snapshots, goals.calls, goals.polite)


def run(scale: Scale, page: Path | None = None) -> None:
    """Measure every row of the table, print it, and put it into a page."""
    busy = load()
    found = grouped(goal for part in PARTS for goal in part.measured(scale))
    table(f"goals: {summary(found)}; medians of {scale.rounds}", rows(found))
    if page is not None:
        command = shlex.join(["python", "benchmarks", *sys.argv[1:]])
        text = page.read_text() if page.exists() else ""
        page.write_text(replaced(text, markdown(found, where(scale, busy), command)))
