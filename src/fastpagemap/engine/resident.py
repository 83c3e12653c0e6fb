"""How many bytes of an object of this process are in RAM."""

from ..model.layout import Memory, layout_of
from ..model.runs import Runs, State, has_any
from ..process.probes import asks_again
from ..process.process import Process
from .states import state_runs

__all__ = ["resident"]


def resident(buffer: Memory) -> int:
    """Return how many bytes of an object of this process are in RAM.

    Parameters
    ----------
    buffer : object
        Anything that `span` takes: an array, a buffer, a tensor.

    Returns
    -------
    int
        Bytes, not pages: an array of 100 bytes on a present page counts 100. If an array has gaps
        (``array[::1000]``), only its own elements count. Each byte counts once, however often
        broadcasting repeats it.

    Raises
    ------
    TypeError
        The object has no memory to ask about, or its memory is on another device.
    ValueError
        Elements overlap in a way that slicing, transposing and broadcasting never do.

    See Also
    --------
    PageMap.residency : millions of allocations at once, of any process, swapped and shared as well.

    Examples
    --------
    >>> array = np.ones(100_000)
    >>> fpm.resident(array), fpm.resident(array[::10])
    (800000, 80000)
    """
    layout, process = layout_of(buffer), Process()
    start, end, _ = process.span(buffer, None)
    runs = _present(process, start, end)
    return int((layout.bytes_below(runs["end"]) - layout.bytes_below(runs["start"])).sum())


@asks_again
def _present(process: Process, start: int, end: int) -> Runs:
    runs = state_runs(process, [(start, end)] if end > start else [], frozenset({"present"}))
    return runs[has_any(runs["state"], State.PRESENT)]
