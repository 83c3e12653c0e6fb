"""All processes, or a family of them, on the whole screen."""

from __future__ import annotations

import errno
import time
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.message import Message
from textual.widgets import Static

from fastpagemap.cli.collect import reason
from fastpagemap.cli.watch.cells import Line
from fastpagemap.cli.watch.census import Census, Member
from fastpagemap.cli.watch.footer import Keys
from fastpagemap.cli.watch.keys import TOP_HELP, TOP_KEYS
from fastpagemap.cli.watch.lines import WARNING, ago
from fastpagemap.cli.watch.listing import Rows
from fastpagemap.cli.watch.processes import COUNTERS, Processes, rows
from fastpagemap.cli.watch.reader import PATIENCE
from fastpagemap.cli.watch.sampler_thread import SamplerThread
from fastpagemap.cli.watch.sampling import Live
from fastpagemap.cli.watch.screen import ListScreen
from fastpagemap.process import stat
from fastpagemap.report.text import printable

__all__ = ["Top"]


class Top(ListScreen):
    """Processes, live.

    Parameters
    ----------
    census : Census
        What samples them. It is closed when the screen is left.
    what : str
        Which processes they are, in words.
    """

    BINDINGS: ClassVar[list[BindingType]] = TOP_KEYS
    HELP_TEXT = TOP_HELP

    class Sampled(Message):
        """There are new rows, or sampling has failed."""

        def __init__(self, rows: Rows | Exception) -> None:
            super().__init__()
            self.rows = rows

    class Opened(Message):
        """A process is to be watched."""

        def __init__(self, source: Live, interval: float) -> None:
            super().__init__()
            self.source, self.interval = source, interval

    def __init__(self, census: Census, what: str = "all processes") -> None:
        self._processes = Processes("processes")
        super().__init__(self._processes)
        self.census, self.paused = census, False
        self._named, self._what, self._opening = what, Line("what"), False
        self.rows: Rows | None = None
        census.fields = self._processes.fields
        self._sampler = SamplerThread(self._sample, lambda it: self.post_message(self.Sampled(it)))

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        with Container(id="all"):
            yield self._what
            yield self._processes
            yield Keys()
        yield Static(id="small")

    # ---- events ----

    def on_mount(self) -> None:
        """Start sampling."""
        self._what.show(Text("looking ..."))
        self._sampler.start()
        self._sampler.request()
        self.set_interval(self.census.interval, self._tick)

    def on_unmount(self) -> None:
        """Stop sampling."""
        self._sampler.stop()
        self.census.close()

    def on_top_sampled(self, message: Sampled) -> None:
        """Show the new rows."""
        if isinstance(message.rows, Exception):
            self.fail(message.rows)
            return
        self.rows = message.rows
        self._processes.put(message.rows)
        self._show_what()
        if self.census.unfinished and not self.paused:
            self._sampler.request()

    def on_listing_chosen(self) -> None:
        """Watch the process that was clicked."""
        self.action_watch()

    def _sample(self) -> Rows:
        fields = self.census.fields
        return rows(self.census.sample(), fields, time.monotonic())

    def _tick(self) -> None:
        if self.is_current and not self.paused:  # nobody looks at what is covered
            self._sampler.request()

    def _show_what(self) -> None:
        members: Sequence[Member] = self.rows.items if self.rows else ()
        text = Text(f"{printable(self._named)}: {len(members)}")
        listed = time.monotonic() - self.census.listed
        if self.paused:
            text.append("  ").append(" paused ", WARNING)
        elif self.rows and listed > 2 * self.census.interval:
            text.append(f"  listed {ago(listed)}")
        refused = Counter(member.refused for member in members if member.refused)
        for why, count in refused.most_common(2):
            text.append(f"  {count} {printable(why)}")
        self._what.show(text)

    # ---- keys ----

    def action_pause(self) -> None:
        """Pause, or go on."""
        self.paused = not self.paused
        self._show_what()
        self._tick()

    def action_watch(self) -> None:
        """Watch the selected process."""
        member: Member | None = self._processes.selected
        if member and not self._opening:
            self._opening = True
            self._open(member)

    @work(thread=True)
    def _open(self, member: Member) -> None:
        """Begin to watch a process: it may keep us waiting, but not the screen."""
        pid, call = member.pid, self.app.call_from_thread
        source = None
        try:
            source = Live(pid, self.census.interval, timeout=PATIENCE)
            about = stat.read(pid)
            if about is None or about.started != member.about.started:
                raise ProcessLookupError(errno.ESRCH, "it has ended")
        except Exception as error:
            if source:
                source.close()
            call(self._not_opened, f"process {pid} ({member.about.name}): {reason(error)}")
        else:
            call(self._opened, source)

    def _opened(self, source: Live) -> None:
        self._opening = False
        if self.is_current:
            self.post_message(self.Opened(source, self.census.interval))
        else:  # it was left meanwhile
            source.close()

    def _not_opened(self, why: str) -> None:
        self._opening = False
        self.notify(printable(why), severity="error", markup=False)

    def known_columns(self) -> Sequence[str]:
        """Return all columns but those that this kernel cannot tell."""
        known = (*self.census.columns, *(column.name for column in COUNTERS))
        return [column.name for column in Processes.COLUMNS if column.name in known]

    def show_columns(self) -> None:
        """Look for what is shown now."""
        self.census.fields = self._processes.fields
        self._tick()

    def saved_as(self) -> tuple[str, int | None]:
        """Return the name of a saved screen; whose memory is on it, nobody can say."""
        return "fastpagemap-top", None
