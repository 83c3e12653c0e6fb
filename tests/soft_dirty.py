"""Memory whose soft-dirty bits are cleared, and what is said of them."""

import contextlib
import ctypes

import numpy as np

import backed
import fastpagemap as fpm
import memory
from linux import PAGE

PAGES = 600  # more than are answered by reading alone

KINDS = {
    maker.__name__: maker
    for maker in (
        memory.touched,
        memory.untouched,
        memory.zero,
        memory.freed,
        backed.shared_anonymous,
        backed.memfd,
        backed.posix,
        backed.sysv,
        backed.file_shared,
        backed.file_private,
        backed.memfd_private,
    )
}


def dirty(made, pm=None):
    """The numbers of the pages that are soft-dirty, the same by every way to ask."""
    pm = pm or fpm.PageMap()
    mask = pm.soft_dirty(made.start, made.end)
    assert pm.masks(made.start, made.end).soft_dirty.tolist() == mask.tolist()
    regions = pm.regions(made.start, made.end, mask=fpm.Category.SOFT_DIRTY)
    assert (regions["end"] - regions["start"]).sum() == mask.sum() * PAGE
    mappings = [m for m in pm.mappings() if made.start <= m.start and m.end <= made.end]
    assert pm.usage(mappings, fields="soft_dirty")["soft_dirty"].sum() == mask.sum() * PAGE
    halves = [pm.soft_dirty(made.at(at), made.at(at + 60)) for at in range(0, made.pages - 60, 60)]
    assert np.concatenate(halves).tolist() == mask[: 60 * len(halves)].tolist()
    return np.flatnonzero(mask).tolist()


def everything(made):
    return list(range(made.pages))


@contextlib.contextmanager
def cleared(make, pages=PAGES):
    """Memory of which no page is soft-dirty."""
    with make(pages) as made, fpm.PageMap() as pm:
        pm.clear_soft_dirty()
        assert dirty(made) == []
        yield made


def contents(made):
    """The bytes of a memory, a row a page."""
    size = made.pages * PAGE
    whole = (ctypes.c_char * size).from_address(made.start)
    return np.frombuffer(whole, np.uint8).reshape(made.pages, PAGE)
