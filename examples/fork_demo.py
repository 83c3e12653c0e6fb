"""Workers that only read, and what reading costs: the demo of fork_sharing.py.

Before the fork there are an array, a list of strings and a list of lists. Then the workers go
through them, step by step, and say after each step how much of each is still shared, by
`PageMap.residency` of the addresses the objects have.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import sys
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.table import Table

from fastpagemap import PageMap
from fastpagemap.report.tables import human

Placed = tuple[npt.NDArray[Any], npt.NDArray[Any]]  # addresses, sizes
WORKERS = 2


class Heap(NamedTuple):
    """What the parent has loaded."""

    array: npt.NDArray[np.float64]
    words: list[str]
    lists: list[list[int]]


def load(scale: int = 200_000) -> Heap:
    """Allocate some dozens of megabytes."""
    array = np.ones(scale * 20)
    return Heap(array, [f"{i:60}" for i in range(scale)], [[] for _ in range(scale)])


def placed(objects: list[Any]) -> Placed:
    """Return where objects are and how large, with what the garbage collector keeps before each."""
    sizes = np.fromiter(map(sys.getsizeof, objects), np.uint64)
    heads = sizes - np.fromiter((each.__sizeof__() for each in objects), np.uint64)
    return np.fromiter(map(id, objects), np.uint64) - heads, sizes


def places(heap: Heap) -> dict[str, Placed]:
    """Return the addresses of all: before the fork, for taking them writes reference counts."""
    data = heap.array.__array_interface__["data"][0]
    return {
        "the array": (np.array([data], np.uint64), np.array([heap.array.nbytes], np.uint64)),
        "the strings": placed(heap.words),
        "the lists": placed(heap.lists),
    }


def read_array(heap: Heap) -> None:
    """Read memory without objects: no page is written."""
    heap.array.sum()


def read_words(heap: Heap) -> None:
    """Touch each string: its reference count goes up and down."""
    for _word in heap.words:
        pass


def collect(heap: Heap) -> None:
    """Have the collector go through all containers: it writes to each one's head."""
    gc.collect()


#: What is done, one after the other.
STEPS: dict[str, Callable[[Heap], None]] = {
    "forked": lambda heap: None,
    "array.sum()": read_array,
    "for word in strings: pass": read_words,
    "gc.collect()": collect,
}


def work(connection: Connection, heap: Heap, spans: dict[str, Placed]) -> None:
    """Be a worker: do each step that is named, and answer with what is shared after it."""
    with PageMap() as pm:
        while step := connection.recv():
            STEPS[step](heap)
            answer = {}
            for name, (addresses, sizes) in spans.items():
                rows = pm.residency(addresses, sizes)
                present, own = int(rows["present"].sum()), int(rows["exclusive"].sum())
                answer[name] = (present - own, own)
            connection.send(answer)


@contextlib.contextmanager
def workers(heap: Heap, spans: dict[str, Placed]) -> Iterator[list[Connection]]:
    """Fork the workers; at the end tell them to go."""
    context = multiprocessing.get_context("fork")
    connections, processes = [], []
    try:
        for _ in range(WORKERS):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, heap, spans), daemon=True)
            with warnings.catch_warnings():  # workers do without numpy's threads
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            theirs.close()
            connections.append(ours)
            processes.append(process)
        yield connections
    finally:
        for connection, process in zip(connections, processes, strict=True):
            with contextlib.suppress(OSError):
                connection.send("")
            process.join()


def run(
    freeze: bool, look: Callable[[], Any], draw: Callable[[Any, Any], Table]
) -> Iterator[Table | str]:
    """Yield what a worker says of its objects, then what is to be seen of mappings from outside."""
    heap = load()
    spans = places(heap)
    gc.disable()  # the collector is to come when it is called, in the workers too
    gc.collect()
    if freeze:
        gc.freeze()  # the collector will never look again at what is alive now
    table = Table(f"each of {WORKERS} workers did", title="By object, in one worker: shared + own")
    for name in spans:
        table.add_column(name, justify="right")
    with workers(heap, spans) as connections:
        first = look()
        for step in STEPS:
            for connection in connections:
                connection.send(step)
            answer, *_others = [connection.recv() for connection in connections]
            table.add_row(step, *(f"{human(s)} + {human(own)}" for s, own in answer.values()))
        yield table
        yield draw(look(), first)
    if not freeze:
        yield "--freeze: what gc.freeze() put aside before the fork, gc.collect() leaves alone."
