"""Looks at the process in a thread of its own, so that the screen never waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from fastpagemap.cli.watch.picture import Picture, Wish, picture
from fastpagemap.cli.watch.sampling import Live, Sample, Still

__all__ = ["Looker", "Seen"]


class Seen(NamedTuple):
    """An answer: what was sampled, the picture that was wished for, and the wish."""

    sample: Sample
    picture: Picture
    wish: Wish


class Looker:
    """Answers wishes, the latest one first, and forgets those that it comes too late for.

    A daemon thread: whoever leaves need not wait for a look under way, which may take seconds in a
    process of terabytes.

    Parameters
    ----------
    source : Live or Still
        What is looked at, from that thread alone.
    tell : callable
        Called there with each `Seen`, or with the exception that ended it all.
    """

    def __init__(self, source: Live | Still, tell: Callable[[Seen | Exception], object]) -> None:
        self._source, self._tell = source, tell
        self._wished = threading.Condition()
        self._wish: tuple[Wish, bool] | None = None
        self._stopped = False
        self._sample: Sample | None = None
        self._last: Seen | None = None
        self._thread = threading.Thread(target=self._run, name="looker", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ask(self, wish: Wish, *, look: bool = True) -> None:
        """Ask for a picture; with `look` False, of what is known already."""
        with self._wished:
            self._wish = wish, look
            self._wished.notify()

    def stop(self, patience: float = 0.5) -> None:
        """End; a look under way is waited for a moment only."""
        with self._wished:
            self._stopped = True
            self._wished.notify()
        self._thread.join(patience)

    def _run(self) -> None:
        while (wished := self._next()) is not None:
            try:
                seen = self._answer(*wished)
            except Exception as error:  # whatever it is, it must not be lost with the thread
                self._tell(error)
                return
            if not self._stopped:
                self._tell(seen)

    def _next(self) -> tuple[Wish, bool] | None:
        with self._wished:
            self._wished.wait_for(lambda: self._wish or self._stopped)
            wished, self._wish = self._wish, None
            return None if self._stopped else wished

    def _answer(self, wish: Wish, look: bool) -> Seen:
        if look or self._sample is None:
            self._sample = self._source.look(wish.view)
        last, sample = self._last, self._sample
        if last and last.wish == wish and _same(last.sample, sample):
            drawn = last.picture
        else:
            began = time.thread_time()
            drawn = picture(sample, wish)
            self._source.also(time.thread_time() - began)
        self._last = Seen(sample, drawn, wish)
        return self._last


def _same(one: Sample, other: Sample) -> bool:
    """Whether both show the same pages."""
    return one.runs is other.runs and one.mappings == other.mappings
