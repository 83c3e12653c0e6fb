"""residency() where no file can be asked which pages of shared memory are swapped."""

import numpy as np
import pytest

import fastpagemap as fpm
import runas
from linux import PAGE
from victim import Victim

PAGES = 700
MADV_REMOVE = 9


def rows_and_pages(pid, start, end, addresses, sizes):
    """What residency() says, and in which pages' masks it must agree."""
    with fpm.PageMap(pid) as pm:
        rows = pm.residency(addresses, sizes)
        masks = {name: getattr(pm, name)(start, end) for name in rows.dtype.names}
    return rows, masks


def twin(mask, start, address, size):
    """The bytes of an allocation on pages of a mask."""
    return sum(
        min(address + size, start + (page + 1) * PAGE) - max(address, start + page * PAGE)
        for page in range((address - start) // PAGE, (address + size - 1 - start) // PAGE + 1)
        if 0 <= page < len(mask) and mask[page]
    )


@pytest.mark.root
@pytest.mark.usefixtures("any_swap")
@pytest.mark.parametrize("edge", [0, 3 * PAGE])
def test_unknown_pages_are_counted_apart(edge):
    with Victim(runas.NOBODY) as victim:
        span = victim.make("shared_anonymous", PAGES)
        span.do("advise", MADV_REMOVE, 100, 130)  # holes: so smaps does not tell which are swapped
        victim.pageout(span)
        own = victim.make("touched", PAGES)
        chance = np.random.default_rng(1)
        addresses = chance.integers(span.start - edge, span.end - 9 * PAGE, 300).tolist()
        addresses += [span.start, own.start + 5]
        sizes = [*chance.integers(1, 9 * PAGE, 300).tolist(), span.end - span.start, 100]
        rows, masks = runas.as_nobody(
            rows_and_pages, victim.pid, span.start, span.end, addresses, sizes
        )
    assert masks["unknown"].any()
    assert rows["unknown"][-1] == 0
    assert rows["present"][-1] == 100
    for row, address, size in zip(rows[:-1], addresses[:-1], sizes[:-1], strict=True):
        for name in ("unknown", "swapped"):
            assert row[name] == twin(masks[name], span.start, address, size)
