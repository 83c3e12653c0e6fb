"""The states of all pages of a process, as runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import cast

import numpy as np

from ..model.entry import PAGE_SIZE
from ..model.layout import Memory, has_memory
from ..model.mapping import KERNEL_HALF, Mapping, listed
from ..model.runs import (
    RUN_DTYPE,
    Runs,
    State,
    bounds,
    concat_rows,
    edges_of,
    has_any,
    in_spans,
    join_equal,
    union,
)
from ..model.span import checked
from ..process.mappings import mappings
from ..process.probes import asks_again, categories, soft_dirty
from ..process.process import Process
from .shmem import SwapUse
from .survey import Segments, SpanList
from .walk import Walker, ask, new_sink

__all__ = ["state_runs", "states"]

_QUESTIONS = frozenset({"present", "swapped", "swapped_shared", "unknown", "shared", "exclusive"})


def states(
    process: Process,
    spans: Iterable[Mapping] | Memory | None,
    current: list[Mapping] | None = None,
) -> Runs:
    """Return the runs of the mappings; see ``PageMap.states``.

    `current` are the mappings of the process, if they have just been read.
    """
    if spans is None:
        return _states(process, None, current)
    if has_memory(spans):
        spans = [Mapping(*process.span(spans, None)[:2], "", 0, 0, 0, "")]
    return _states(process, _disjoint(listed(cast(Iterable[Mapping], spans))), current)


@asks_again
def _states(
    process: Process, chosen: list[tuple[int, int]] | None, current: list[Mapping] | None
) -> Runs:
    with process.outlived():
        if current is None:
            current = mappings(process)
        current = [mapping for mapping in current if mapping.start < KERNEL_HALF]
        questions = _QUESTIONS | {"guard"} | ({"huge", "zero"} if categories() else set())
        if soft_dirty():
            questions |= {"soft_dirty"}

        runs = state_runs(process, chosen, frozenset(questions), current)
        # A scan of memory that is being torn down misses pages, and reports no error.
        process.check_alive()
    return runs


def state_runs(
    process: Process,
    spans: SpanList | None,
    questions: frozenset[str],
    current: list[Mapping] | None = None,
) -> Runs:
    """Return the runs of spans, sorted and disjoint, with the states that the questions need."""

    def put(walker: Walker, segments: Segments, _: SpanList | None) -> Runs:
        sink = new_sink((), runs=True)
        walker.walk(segments, sink)
        return np.frombuffer(sink.runs(), RUN_DTYPE)

    swap = SwapUse()
    answers = ask(process, spans, questions, put, current)
    nothing_swapped = swap.was_none()
    found = []
    for segments, kept, runs in answers:
        if not kept.all():
            changed = segments.part(~kept)
            runs = runs[~in_spans(runs["start"], changed.starts, changed.ends)]
        if len(runs):
            found.append(runs)
    runs = _sorted(found)
    if nothing_swapped and has_any(runs["state"], State.SWAPPED).any():
        runs["state"] &= ~np.uint64(int(State.SWAPPED))
        starts = np.concatenate([segments.starts for segments, _, _ in answers])
        runs = join_equal(runs[runs["state"] != 0], starts)
    return runs


def _disjoint(spans: list[Mapping]) -> list[tuple[int, int]]:
    """Cut spans, which may overlap, at all their edges; return each stretch once, in order."""
    for span in spans:
        checked(span.start, span.end)
    try:
        starts, ends = bounds(spans)
    except OverflowError:
        # 2**64 does not fit 64 bits. Nothing is ever mapped on the last page.
        last = (1 << 64) - PAGE_SIZE
        starts, ends = bounds(
            [span._replace(start=min(span.start, last), end=min(span.end, last)) for span in spans]
        )
    edges = edges_of(starts, ends)
    inside = in_spans(edges, *union(starts, ends)).tolist()
    pairs = itertools.pairwise(edges.tolist())
    return [pair for pair, wanted in zip(pairs, inside, strict=False) if wanted]


def _sorted(found: list[Runs]) -> Runs:
    """Return all runs in order."""
    runs = concat_rows(found, RUN_DTYPE)
    if len(found) > 1:
        runs = runs[np.argsort(runs["start"], kind="stable")]
    return runs
