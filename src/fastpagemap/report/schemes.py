"""What the colours of a picture mean where they do not show states: nodes, counts, orders."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastpagemap.model.runs import RUN_DTYPE, join_equal
from fastpagemap.report.palette import Cells, DisplayState, Scheme
from fastpagemap.report.text import human

__all__ = ["CHOICES", "joined", "painted"]

Numbers = npt.NDArray[np.int64]

#: What pages can be coloured by.
CHOICES = ("node", "mapcount", "order")
# From rare to common hues, after Okabe and Ito, each of another lightness.
_COLOURS = ("#0072b2", "#f6bd4a", "#d55e00", "#56b4e9", "#004d36", "#cc79a7", "#0b2f5b", "#585858")
_NONE = DisplayState("none", "not present, or the zero page", "#f4f4f4", ".")
# The least of each class of counts.
_COUNTS = ((1, "mapped once"), (2, "twice"), (3, "3 to 8 times"), (9, "more often"))


def joined(
    starts: npt.NDArray[np.uint64],
    ends: npt.NDArray[np.uint64],
    values: Numbers,
    edges: npt.NDArray[np.uint64],
) -> npt.NDArray[np.void]:
    """Return runs of equal values, cut at edges, with the value as the state; below 0: none."""
    kept = values >= 0
    runs = np.empty(int(kept.sum()), RUN_DTYPE)
    runs["start"], runs["end"], runs["state"] = starts[kept], ends[kept], values[kept]
    return join_equal(runs, edges)


def painted(
    by: str, runs: npt.NDArray[np.void], page_size: int
) -> tuple[npt.NDArray[np.void], Scheme]:
    """Return runs of nodes, counts or orders with the numbers of their colours, and the scheme."""
    if by == "mapcount":
        least = np.array([count for count, _ in _COUNTS], np.uint64)
        classes = np.searchsorted(least, runs["state"], "right") - 1
        labels = [label for _, label in _COUNTS]
    else:
        classes, labels = _most_common(by, runs, page_size)
    runs = runs.copy()
    runs["state"] = classes
    states = tuple(
        DisplayState(f"{by}{number}", label, _COLOURS[number], str(number))
        for number, label in enumerate(labels)
    )
    return runs, Scheme((*states, _NONE), _as_it_is, tuple(range(len(states))))


def _most_common(
    by: str, runs: npt.NDArray[np.void], page_size: int
) -> tuple[npt.NDArray[np.intp], list[str]]:
    """Return the class of each run, and their labels: rare values share the last colour."""
    known, classes = np.unique(runs["state"], return_inverse=True)
    labels = [_label(by, number, page_size) for number in known.tolist()]
    if len(known) <= len(_COLOURS):
        return classes, labels
    sizes = np.bincount(classes, (runs["end"] - runs["start"]).astype(np.float64))
    kept = np.sort(np.argsort(-sizes, kind="stable")[: len(_COLOURS) - 1])
    number = np.full(len(known), len(kept))
    number[kept] = np.arange(len(kept))
    rest = f"{len(known) - len(kept)} other {by}s"
    return number[classes], [*(labels[index] for index in kept), rest]


def _label(by: str, number: int, page_size: int) -> str:
    return f"node {number}" if by == "node" else f"order {number}, {human(page_size << number)}"


def _as_it_is(states: npt.ArrayLike) -> Cells:
    return np.asarray(states).astype(np.uint8)
