"""Too many open files: an answer is the whole one, or an exception says why there is none."""

import errno
import os
import resource

import numpy as np
import pytest

import backed
import fastpagemap as fpm
import memory
import runas
import swap
from seccomp import forget

PAGES = 600
#: Descriptors that a question may open.
LEFT = range(14)

QUESTIONS = {
    "PageMap": lambda pm, start, end: fpm.PageMap(pm.pid).pid,
    "mappings": lambda pm, start, end: pm.mappings(),
    "read": lambda pm, start, end: pages_of(pm.read(start, end)),
    "masks": lambda pm, start, end: masks_of(pm.masks(start, end)),
    "present": lambda pm, start, end: pm.present(start, end).tolist(),
    "swapped": lambda pm, start, end: pm.swapped(start, end).tolist(),
    "unknown": lambda pm, start, end: pm.unknown(start, end).tolist(),
    "usage": lambda pm, start, end: pm.usage(around(pm, start, end)).tolist(),
    "states": lambda pm, start, end: pm.states(around(pm, start, end)).tolist(),
    "regions": lambda pm, start, end: pm.regions(start, end).tolist(),
    "residency": lambda pm, start, end: pm.residency([start], [end - start]).tolist(),
    "snapshot": lambda pm, start, end: within(pm.snapshot().states, start, end),
    "capabilities": lambda pm, start, end: str(fpm.capabilities(pm.pid)),
    "tracker": lambda pm, start, end: tracked(),
}


def pages_of(pages):
    return pages.swapped.tolist(), pages.unknown.tolist()


def masks_of(masks):
    return masks.swapped.tolist(), masks.shared.tolist(), masks.unknown.tolist()


def around(pm, start, end):
    return [m for m in pm.mappings() if m.start < end and start < m.end]


def within(runs, start, end):
    return runs[(runs["start"] >= np.uint64(start)) & (runs["end"] <= np.uint64(end))].tolist()


def tracked():
    with memory.touched(4) as made, fpm.WriteTracker(made.start, made.end) as tracker:
        made.write(1, 2)
        return tracker.written().tolist()


def first_above_all():
    """Fill the gaps between open descriptors; the number that the next one gets."""
    number = os.open(os.devnull, os.O_RDONLY)
    while number < max(int(name) for name in os.listdir("/proc/self/fd")) - 1:
        number = os.open(os.devnull, os.O_RDONLY)
    return number + 1


def outcomes(name, pid, start, end, cold):
    """What a question says under each limit: the right answer, an errno, or something else."""
    ask = QUESTIONS[name]
    found = set()
    with fpm.PageMap(pid) as pm:
        right = ask(pm, start, end)
        next_one = first_above_all()
        for left in LEFT:
            if cold:
                forget()
            resource.setrlimit(resource.RLIMIT_NOFILE, (next_one + left, 4096))
            try:
                found.add("right" if ask(pm, start, end) == right else f"wrong with {left}")
            except OSError as error:
                found.add(error.errno)
            resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
            if ask(pm, start, end) != right:
                found.add(f"wrong after {left}")
    return found


@pytest.mark.root
@pytest.mark.usefixtures("_write_tracking", "any_swap")
@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question(name):
    with backed.memfd_sparse(PAGES) as made:
        swap.pageout(made.start, made.end)
        for cold in (False, True):
            found = runas.in_child(outcomes, name, os.getpid(), made.start, made.end, cold)
            assert found <= {"right", errno.EMFILE}
            assert "right" in found
