"""One walk over what a survey found, for all questions and all sinks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._kernel import walk as kernel
from .._kernel.plan import Plan
from .._kernel.sinks import Sink
from ..model.entry import PAGE_SIZE
from ..model.mapping import Mapping
from ..model.questions import QUESTIONS
from ..model.runs import RUN_DTYPE, Runs, State, edges_of, has_any, runs_of, states_at
from ..process.limits import affordable
from ..process.process import Process
from .shmem import SharedMemory
from .survey import Segments, SpanList, survey
from .table import Backing, plans

__all__ = ["Answer", "Walker", "ask", "new_sink", "pages_of"]

# Surveys at most, if mappings change during each walk.
_MAX_SURVEYS = 4
# Questions whose answers depend on a mapping's backing, not on the page table alone.
_BY_BACKING = frozenset({"shared", "soft_dirty"})


def pages_of(origin: int, start: int, end: int) -> slice:
    """Return the slice for a span, of an array whose first element is for `origin`."""
    return slice((start - origin) // PAGE_SIZE, (end - origin) // PAGE_SIZE)


def new_sink(questions: tuple[str, ...], *where: Any, **wanted: Any) -> Sink:
    """Return a sink that answers some questions; see `Sink`."""
    return Sink(_matches(questions), *where, **wanted)


@functools.cache
def _matches(questions: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    return tuple(QUESTIONS[name] for name in questions)


class Walker:
    """Walks over segments, and puts the answers about their pages into a sink."""

    def __init__(self, process: Process, questions: frozenset[str]) -> None:
        self.process = process
        self.memory: SharedMemory = SharedMemory(process)
        self.plans: tuple[Plan, ...] = plans(questions)
        # To resolve swapped pages, the walk must find those neither present nor swapped.
        self._plans_to_resolve = plans(questions | {"empty", "swapped"})

    def walk(
        self,
        segments: Segments,
        sink: Sink,
        counts: npt.NDArray[np.uint64] | None = None,
    ) -> None:
        """Walk over segments; add to ``counts[i, j]`` segment j's pages that question i counts."""
        numbers = np.arange(len(segments), dtype=np.int64)
        # Small segments are read: not parts of huge pages, nor hugetlb pages, which may be small.
        # An int: numpy would drop what a signal handler raises while it looks at an enum.
        scanned = segments.clipped | (segments.backings == int(Backing.HUGETLB))
        kinds = segments.backings | scanned * np.uint8(kernel.CLIPPED_FLAG)
        done = 0
        for alone in [*np.flatnonzero(segments.resolved).tolist(), len(segments)]:
            if done < alone:
                part = slice(done, alone)
                starts, ends = segments.starts[part], segments.ends[part]
                self._walk(self.plans, starts, ends, kinds[part], sink, numbers[part], counts)
            if alone < len(segments):
                self._resolve(segments, alone, sink, counts)
            done = alone + 1
        if not len(segments):
            self.process.check_alive()

    def _walk(
        self,
        chosen: tuple[Plan, ...],
        starts: npt.NDArray[np.uint64],
        ends: npt.NDArray[np.uint64],
        kinds: npt.NDArray[np.uint8],
        sink: Sink,
        rows: npt.NDArray[np.int64] | None = None,
        counts: npt.NDArray[np.uint64] | None = None,
    ) -> None:
        process = self.process
        kernel.walk(
            process.pagemap,
            process.maps,
            process.path,
            starts,
            ends,
            kinds,
            chosen,
            sink,
            rows,
            counts,
        )

    def _span(self, span: tuple[int, int], backing: int, sink: Sink) -> None:
        """Walk over a part of one mapping, for all that is needed to resolve its pages."""
        starts, ends = np.array(span, np.uint64).reshape(2, 1)
        kinds = np.array([backing | kernel.CLIPPED_FLAG], np.uint8)
        self._walk(self._plans_to_resolve, starts, ends, kinds, sink)

    def _resolve(
        self, segments: Segments, number: int, sink: Sink, counts: npt.NDArray[np.uint64] | None
    ) -> None:
        """Walk over a segment of shared memory, and ask its file which pages are swapped."""
        start, end = int(segments.starts[number]), int(segments.ends[number])
        mapping, backing = segments.mappings[number], int(segments.backings[number])
        goes_on = False
        for low, high, many in self.memory.parts(start, end):
            if many:
                states = np.empty((high - low) // PAGE_SIZE, np.uint16)
                self._span((low, high), backing, Sink((), low, states=states))
                self._look_up(segments, mapping, low, states)
                sink.put(low, states, not goes_on)
            else:
                found = Sink((), runs=True, internal=True)
                self._span((low, high), backing, found)
                runs = np.frombuffer(found.runs(), RUN_DTYPE)
                runs = self._look_up_runs(segments, mapping, (low, high), runs)
                sink.put_runs(low, high, runs, not goes_on)
                # A process may map what it has in swap many times.
                affordable(sink.run_count, 2 * RUN_DTYPE.itemsize)
            goes_on = True
        if counts is not None:
            counts[:, number] += np.array(sink.counts(), np.uint64)

    def _look_up(
        self, segments: Segments, mapping: Mapping, start: int, states: npt.NDArray[np.uint16]
    ) -> None:
        """Add what the file tells to the states; UNKNOWN if the mapping keeps changing."""
        if segments.stable:
            self.memory.resolve(mapping, start, states)
        else:
            gone = ~has_any(states, State.PRESENT | State.SWAPPED)
            states |= gone * np.uint16(int(State.UNKNOWN))

    def _look_up_runs(
        self, segments: Segments, mapping: Mapping, span: tuple[int, int], runs: Runs
    ) -> Runs:
        """Do what `_look_up` does, for runs."""
        if segments.stable:
            return self.memory.resolve_runs(mapping, *span, runs)
        edges = edges_of(np.array(span, np.uint64), runs["start"], runs["end"])
        states = states_at(runs, edges[:-1])
        gone = ~has_any(states, State.PRESENT | State.SWAPPED)
        states[gone] |= np.uint64(int(State.UNKNOWN))
        return runs_of(edges[:-1], edges[1:], states)


class Answer(NamedTuple):
    """The result for some segments."""

    segments: Segments
    # Whose mappings were the same afterwards: the result holds for these segments alone.
    kept: npt.NDArray[np.bool_]
    result: Any


def ask(
    process: Process,
    spans: SpanList | None,
    questions: frozenset[str],
    put: Callable[[Walker, Segments, SpanList | None], Any],
    current: list[Mapping] | None = None,
) -> list[Answer]:
    """Survey some spans, walk over them, and repeat that for mappings that changed meanwhile.

    Parameters
    ----------
    process : Process
    spans : sequence of (start, end), optional
        All mappings by default.
    questions : frozenset of str
        The questions to answer.
    put : callable
        Takes a walker, segments, and the spans that were surveyed for them; returns the result.
        Called again for the segments whose mappings changed meanwhile.
    current : list of Mapping, optional
        The mappings of the process, if they have just been read.
    """
    answers = []
    walker = Walker(process, questions)
    segments = survey(walker.memory.backings, spans, questions, current)
    for tries in range(_MAX_SURVEYS):
        result = put(walker, segments, spans)
        changed = _changed(walker, segments, questions)
        answers.append(Answer(segments, ~changed, result))
        if not changed.any():
            break
        walker.memory = SharedMemory(process)
        # Mappings that keep changing are answered by entries alone, and else unknown.
        stable = tries < _MAX_SURVEYS - 2
        chosen = segments.part(changed)
        spans = list(zip(chosen.starts.tolist(), chosen.ends.tolist(), strict=True))
        segments = chosen.surveyed(walker.memory.backings, spans, questions, stable=stable)
    return answers


def _changed(
    walker: Walker, segments: Segments, questions: frozenset[str]
) -> npt.NDArray[np.bool_]:
    """Return which segments' answers depend on what has changed since: a mapping, or its sum."""
    rests = segments.resolved.copy()
    if questions & _BY_BACKING:
        # An int: while numpy looks at an enum's member it drops what a signal handler raises.
        rests |= segments.backings != int(Backing.UNKNOWN)
    if not segments.stable or not rests.any():
        return np.zeros(len(segments), bool)
    changed = segments.changed(walker.process) & rests
    sums = walker.memory.sums.changed()
    if sums:
        changed |= np.array([mapping in sums for mapping in segments.mappings], bool)
    return changed
