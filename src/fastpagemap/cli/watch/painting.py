"""Samples with the pictures made from them; no screen here."""

from __future__ import annotations

import time
from typing import NamedTuple

from fastpagemap.cli.watch.picture import Picture, ViewRequest, picture
from fastpagemap.cli.watch.sampling import Live, Sample, SnapshotSource

__all__ = ["Frame", "Painter"]


class Frame(NamedTuple):
    """What the screen shows: the sample, the picture made from it, and the request for it."""

    sample: Sample
    picture: Picture
    request: ViewRequest


class Painter:
    """Makes frames of a source, from one thread alone."""

    def __init__(self, source: Live | SnapshotSource) -> None:
        self._source = source
        self._sample: Sample | None = None
        self._last: Frame | None = None

    def frame(self, request: ViewRequest, take_sample: bool = True) -> Frame:
        """Return a frame; with `take_sample` False, one of the last sample."""
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
