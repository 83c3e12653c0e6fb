"""Samples the process in a thread of its own, so that the screen never waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from fastpagemap.cli.watch.picture import Picture, ViewRequest, picture
from fastpagemap.cli.watch.sampling import Live, Sample, SnapshotSource

__all__ = ["Frame", "SamplerThread"]


class Frame(NamedTuple):
    """What the screen shows: the sample, the picture made from it, and the request for it."""

    sample: Sample
    picture: Picture
    request: ViewRequest


class SamplerThread:
    """Answers requests for a view. A new request replaces one that still waits.

    It is a daemon thread: sampling a process of terabytes may take seconds, and leaving the program
    must not wait for that.

    Parameters
    ----------
    source : Live or SnapshotSource
        What is sampled, from this thread alone.
    deliver : callable
        Called in this thread with each `Frame`, or with the exception that ended the thread.
    """

    def __init__(
        self, source: Live | SnapshotSource, deliver: Callable[[Frame | Exception], object]
    ) -> None:
        self._source, self._deliver = source, deliver
        self._changed = threading.Condition()
        self._waiting: tuple[ViewRequest, bool] | None = None
        self._stopped = False
        self._sample: Sample | None = None
        self._last: Frame | None = None
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def request(self, request: ViewRequest, *, sample: bool = True) -> None:
        """Request a frame; with `sample` False, one of the last sample."""
        with self._changed:
            self._waiting = request, sample
            self._changed.notify()

    def stop(self, patience: float = 0.5) -> None:
        """Stop the thread; wait at most `patience` seconds for a sample that is being taken."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(patience)

    def _run(self) -> None:
        while (waiting := self._next()) is not None:
            try:
                frame = self._answer(*waiting)
            except Exception as error:  # whatever it is, it must not be lost with the thread
                self._deliver(error)
                return
            if not self._stopped:
                self._deliver(frame)

    def _next(self) -> tuple[ViewRequest, bool] | None:
        """Wait for a request; return None when the thread is to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopped)
            waiting, self._waiting = self._waiting, None
            return None if self._stopped else waiting

    def _answer(self, request: ViewRequest, take_sample: bool) -> Frame:
        if take_sample or self._sample is None:
            self._sample = self._source.sample(request.view)
        last, sample = self._last, self._sample
        if last and last.request == request and _same_pages(last.sample, sample):
            drawn = last.picture
        else:
            began = time.thread_time()
            drawn = picture(sample, request)
            self._source.add_cost(time.thread_time() - began)
        self._last = Frame(sample, drawn, request)
        return self._last


def _same_pages(one: Sample, other: Sample) -> bool:
    """Return whether two samples show the same pages."""
    return one.runs is other.runs and one.mappings == other.mappings
