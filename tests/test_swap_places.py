"""Places in swap, counted once: by processes of a group and by others, against sets in Python."""

import random
import time
from collections import Counter

import numpy as np
import pytest

from fastpagemap.engine.swap_places import count_files, count_locations

FILE, OTHER = (1, 2, ""), (1, 3, "")


def twin(group, others):
    """Of what each process has, as Counters: its share and its own; all places, and the group's."""
    sets = [set(own) for own in [*group, *others]]
    together = set().union(*map(set, group))
    outside = set().union(*map(set, others))
    return sets, together, together - outside


@pytest.mark.parametrize("seed", range(20))
def test_slots(seed):
    chance = random.Random(seed)

    def some():
        return [chance.randrange(60) for _ in range(chance.randrange(50))]

    group = [some() for _ in range(chance.randrange(1, 5))]
    others = [some() for _ in range(chance.randrange(4))]
    arrays = [[np.array(own, np.uint64) for own in part] for part in (group, others)]
    counts, places, alone = count_locations(*arrays)
    _, together, unique = twin(group, others)
    assert (places, alone) == (len(together), len(unique))
    # A slot has a reference for each page that it is the content of.
    references = sum(map(Counter, [*group, *others]), Counter())
    for own, count in zip(group, counts, strict=True):
        times = Counter(own)
        assert count.all == len(own)
        assert count.share == pytest.approx(sum(times[at] / references[at] for at in times))
        assert count.own == sum(times[at] == references[at] for at in times)


@pytest.mark.parametrize("seed", range(20))
def test_files(seed):
    chance = random.Random(seed)

    def some():
        spans = {}
        for file in chance.sample([FILE, OTHER], chance.randrange(3)):
            starts = [chance.randrange(40) for _ in range(chance.randrange(1, 4))]
            spans[file] = [(start, start + chance.randrange(1, 12)) for start in starts]
        return spans

    def as_ranges(own):
        return {
            file: [(np.array([a], np.uint64), np.array([b], np.uint64)) for a, b in spans]
            for file, spans in own.items()
        }

    def as_pages(own):
        spans = [(file, *span) for file, each in own.items() for span in each]
        return [(file, page) for file, start, end in spans for page in range(start, end)]

    group = [some() for _ in range(chance.randrange(1, 5))]
    others = [some() for _ in range(chance.randrange(4))]
    counts, distinct, alone = count_files(*(list(map(as_ranges, part)) for part in (group, others)))
    inside, outside = (list(map(as_pages, part)) for part in (group, others))
    sets, together, unique = twin(inside, outside)
    assert (distinct, alone) == (len(together), len(unique))
    holders = sum(map(Counter, sets), Counter())
    for own, pages, count in zip(inside, sets, counts, strict=False):
        assert count.all == len(own)
        assert count.share == pytest.approx(sum(1 / holders[page] for page in pages))
        assert count.own == sum(holders[page] == 1 for page in pages)


def test_the_cost_of_files_is_that_of_who_holds_them():
    """Files of many processes cost no more than as many files of one."""
    ranges = [(np.array([3], np.uint64), np.array([7], np.uint64))]
    files = [(1, number, "") for number in range(400)]

    def seconds(group):
        begun = time.process_time()
        _, distinct, _ = count_files(group, group[1:])
        assert distinct == 4 * len(files)
        return time.process_time() - begun

    alone = min(seconds([dict.fromkeys(files, ranges)]) for _ in range(3))
    spread = min(seconds([{file: ranges} for file in files]) for _ in range(3))
    assert spread < 4 * alone
