"""The lines of text that ``fastpagemap watch`` shows; no screen here."""

from __future__ import annotations

import time
from bisect import bisect_right

from rich.text import Text

from fastpagemap.cli.watch.area import View
from fastpagemap.cli.watch.painting import Frame
from fastpagemap.cli.watch.sampling import Live, Sample, SnapshotSource
from fastpagemap.model.mapping import Mapping
from fastpagemap.report import palette
from fastpagemap.report.text import ANON, ending, human, printable

__all__ = ["ago", "cell", "rates", "title", "what"]

WARNING = "bold reverse"
#: Of a longer path, only the end is shown, in this many columns: in the title, and of a cell.
MAX_PATH, MAX_CELL_PATH = 30, 1000


def what(source: Live | SnapshotSource, sample: Sample, paused: bool) -> Text:
    """Say what is watched, and how old the samples are."""
    text = Text()
    if source.pid:
        text.append(f"process {source.pid} {printable(source.name)}  ")
    else:
        text.append("saved entries  ")
    if sample.ended:
        text.append(f" {sample.ended}: this is how it was ", WARNING)
    elif not source.live:
        text.append(" a snapshot ", WARNING)
    elif paused:
        text.append(" paused ", WARNING)
    else:
        now = time.monotonic()
        if sample.trouble:
            text.append(f" {printable(sample.trouble)} ", WARNING)
        if sample.seen:
            text.append(f"pages seen {ago(now - sample.seen)}, sums {ago(now - sample.summed)}")
    return text


def ago(seconds: float) -> str:
    """Say how long ago something was."""
    return "now" if seconds < 1 else f"{seconds:.0f} s ago"


def rates(source: Live | SnapshotSource, sample: Sample) -> Text:
    """Say what happens in a second."""
    if isinstance(source, SnapshotSource):
        return Text(source.about)
    if sample.ended:
        return Text()
    rates, text = sample.rates, Text()
    known = source.knows_written
    for label, value in (
        ("faults/s: minor ", _number(rates.minor)),
        (" major ", _number(rates.major)),
        (" · shown: in ", _bytes(rates.faulted_in)),
        (" out ", _bytes(rates.swapped_out)),
        (" written ", _bytes(rates.written) if known else "not known here"),
    ):
        text.append(label, "dim").append(value, "bold")
    return text


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _bytes(value: float | None) -> str:
    return "-" if value is None else f"{human(round(value))}/s"


def title(frame: Frame, mapping: Mapping | None, zoom: View | None) -> Text:
    """Say which pages the cells show."""
    picture, size = frame.picture, frame.sample.page_size
    if zoom:
        text = Text(f" {zoom.start:x}-{zoom.end:x}")
    elif mapping:
        path = ending(mapping.path or ANON, MAX_PATH)
        text = Text(f" {mapping.start:x} {path}")
    else:
        text = Text(" whole process")
    text.append(f": {human(picture.area.size)}")
    pages = "1 page" if picture.pages == 1 else f"{picture.pages} pages"
    text.append(f", a cell is {pages} ({human(picture.pages * size)})")
    if picture.left_out:
        text.append(f", {human(picture.left_out)} untouched left out")
    return text


def cell(frame: Frame, number: int) -> Text:
    """Say which states are in a cell."""
    picture, sample = frame.picture, frame.sample
    address = picture.area.address(number * picture.pages * sample.page_size)
    at = bisect_right(sample.mappings, address, key=lambda mapping: mapping.start) - 1
    path = ending(sample.mappings[at].path or ANON, MAX_CELL_PATH)
    amounts = zip(palette.STATES, picture.amounts[number].tolist(), strict=True)
    found = ", ".join(f"{state.label} {human(round(size))}" for state, size in amounts if size)
    return Text(f" {address:x} {path}: {found}")
