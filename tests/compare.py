"""The one comparison: what fastpagemap says of memory, next to the slow twin and to smaps.

check() asks everything of a span, by every way to ask it; check_states() asks for states alone.
Memory that did not hold still is looked at again. Sums of processes are in compare_usage.py.
"""

import itertools
import os
from typing import NamedTuple

import numpy as np

import fastpagemap as fpm
import linux
import oracle
import oracle_files
from fastpagemap import State
from features import keeps_soft_dirty
from linux import PAGE
from oracle_files import UNTOLD

TRIES = 10  #: for memory to hold still
FROM_ENTRIES = ("present", "shared", "exclusive")  #: and nothing else decides
TOGETHER = ("swapped", "shared", "unknown", "soft_dirty")  #: PageMap.masks() has them, too
#: The states that a scan alone tells, and the twin does not see.
SCANNED = State.HUGE | State.ZERO


def while_still(look, before, after=None):
    """Call look() until after() is what before() was; return that, and what look() said.

    Without `after`, before() is called again. An AssertionError of look() counts where nothing
    moved.
    """
    after = after or before
    for _ in range(TRIES):
        state, problem = before(), None
        try:
            answer = look()
        except AssertionError as error:
            problem = error
        if after() == state:
            if problem:
                raise problem
            return state, answer
    raise AssertionError("it never held still")


# One span, everything.


class Said(NamedTuple):
    """The masks `swapped` and `unknown`, as lists."""

    swapped: list
    unknown: list


class Truth(NamedTuple):
    """What the kernel says of a span: entries, what files have in swap, where any file is."""

    words: list
    in_files: list
    have_files: list

    @classmethod
    def of(cls, start, end, pid):
        readers = oracle.words, oracle_files.in_swap, oracle.have_files
        return cls(*(read(start, end, pid) for read in readers))

    def meanings(self):
        return list(map(oracle.meaning, self.words, self.have_files))


class Answers(NamedTuple):
    """All that a PageMap says of a span."""

    pages: fpm.Pages
    masks: dict
    said: list  # of Said, for every way to ask
    mappings: list
    states: np.ndarray
    swap_sums: dict
    sees_types: bool  # or else markers look like swap
    any_swap: bool  # on this machine


def ways(pm, pages, name):
    """One mask by all the ways in which it can be had, each with its name."""
    start, end = pages.start, pages.end
    out = np.full(len(pages), True)
    assert getattr(pm, name)(start, end, out=out) is out
    yield "out", out
    yield "method", getattr(pm, name)(start, end)
    yield "pages", getattr(pages, name)
    if name in TOGETHER:
        yield "masks", getattr(pm.masks(start, end), name)


def by_every_way(pm, pages, name):
    """One mask as a list, which is the same by every way to ask for it."""
    (_, mask), *others = ways(pm, pages, name)
    for way, other in others:
        assert other.tolist() == mask.tolist(), (name, way)
    return mask.tolist()


def ask(pm, start, end):
    """What is swapped and unknown, by every way to ask it; usage() has the same sums."""
    pages = pm.read(start, end)
    said = Said(*(by_every_way(pm, pages, name) for name in Said._fields))
    assert not any(itertools.starmap(lambda s, u: s and u, zip(*said, strict=True)))
    mappings = [m for m in pm.mappings() if start <= m.start and m.end <= end]
    for mapping, row in zip(mappings, pm.usage(mappings), strict=True):
        part = _pages_of(mapping, start)
        swapped = sum(said.swapped[part]) * PAGE
        unknown = sum(said.unknown[part]) * PAGE
        if unknown and not row["unknown"]:  # it takes the sum, where that does not tell the pages
            assert mapping.shared
            assert swapped <= row["swapped"] <= swapped + unknown, mapping
            swapped, unknown = row["swapped"], 0
        assert row["swapped"] == swapped, mapping
        assert row["unknown"] == unknown, mapping
        own = 0
        if not mapping.shared:
            words = oracle.words(mapping.start, mapping.end, pm.pid)
            own = sum(oracle.meaning(word).swapped for word in words) * PAGE
        assert row["swapped_shared"] == (swapped - own if mapping.device else 0), mapping
    return said


def _pages_of(mapping, start):
    """The pages of a mapping in a span that begins at `start`, as a slice."""
    return slice((mapping.start - start) // PAGE, (mapping.end - start) // PAGE)


def _ask_everything(pm, start, end):
    pages = pm.read(start, end)
    masks = {name: by_every_way(pm, pages, name) for name in FROM_ENTRIES}
    masks["soft_dirty"] = _soft_dirty(pm, pages)
    both = (ways(pm, pages, name) for name in Said._fields)
    said = [Said(one.tolist(), two.tolist()) for (_, one), (_, two) in zip(*both, strict=True)]
    sums = oracle.swap_sums(pm.pid)
    swap = sum(swap for (low, high), swap in sums.items() if low < end and start < high)
    sees_types = os.geteuid() == 0 or not swap
    if sees_types:
        said.append(ask(pm, start, end))
    any_swap = linux.meminfo("SwapTotal") != linux.meminfo("SwapFree")
    return Answers(pages, masks, said, *_ask_states(pm, start, end), sums, sees_types, any_swap)


def _soft_dirty(pm, pages):
    """The mask where the kernel has such bits; None, refused by every way to ask, where not."""
    if keeps_soft_dirty():
        return by_every_way(pm, pages, "soft_dirty")
    masks = pm.masks(pages.start, pages.end)
    refusals = 0
    for way in (
        lambda: pm.soft_dirty(pages.start, pages.end),
        lambda: pages.soft_dirty,
        lambda: masks.soft_dirty,
    ):
        try:
            way()
        except fpm.UnsupportedError as error:
            refusals += "soft-dirty" in str(error)
    assert refusals == 3
    return None


def check(pm, start, end, all_known=None):
    """Assert that pm tells the truth about a span of a process that does nothing meanwhile.

    `all_known`: whether this user can learn everything, so that nothing may be unknown; root can.
    Returns what was said of swap.
    """
    truth, answers = while_still(
        lambda: _ask_everything(pm, start, end), lambda: Truth.of(start, end, pm.pid)
    )
    all_known = os.geteuid() == 0 if all_known is None else all_known
    meanings = [_as_seen(meaning, answers) for meaning in truth.meanings()]
    pages = answers.pages
    assert (len(pages), pages.start, pages.end) == (len(truth.words), start, end)
    assert pages.entries["value"].tolist() == truth.words
    for name, mask in answers.masks.items():
        if mask is not None:
            assert mask == [getattr(meaning, name) for meaning in meanings], name
    for said in answers.said:
        for rows in zip(meanings, truth.in_files, *said, strict=True):
            _check_swap_of_page(*rows, all_known)
    _compare_states(answers.mappings, answers.states, truth, answers.said[-1], start, end)
    if os.geteuid() == 0:
        _check_swap_sums(answers, truth, start, end, pm.pid)
    return answers.said[-1]


def _as_seen(meaning, answers):
    """Markers look like swap to those who see no types, but not where nothing is swapped."""
    if os.geteuid() == 0 or not meaning.swapped or (answers.sees_types and answers.any_swap):
        return meaning
    return meaning._replace(swapped=UNTOLD if answers.any_swap else False)


def _check_swap_of_page(meaning, in_file, swapped, unknown, all_known):
    """One page is swapped, or not, or unknown, which it never is to who can know; rightly so.

    `in_file` is what the file of shared memory says of it, None where there is no such file.
    """
    said = (swapped, unknown)
    if meaning.swapped is UNTOLD:
        assert said in ((True, False), (False, False))
    elif in_file is UNTOLD and not meaning.present:
        assert said != (True, True)
    elif meaning.present or meaning.swapped or in_file is None:
        assert said == (meaning.swapped, False)
    elif all_known:
        assert said == (in_file, False)
    else:
        assert said in ((in_file, False), (False, True))


def _check_swap_sums(answers, truth, start, end, pid):
    """Smaps counts in each mapping what was told of its pages."""
    for line in oracle.maps(pid):
        inside = start <= line.start and line.end <= end
        if inside and not oracle.counts_twice(line, pid):
            part = _pages_of(line, start)
            if UNTOLD not in truth.in_files[part]:
                swapped = sum(answers.said[-1].swapped[part]) * PAGE
                assert answers.swap_sums[line.start, line.end] == swapped, line


def honest(said, real):
    """Assert that what was said is true, whatever else is left unknown."""
    for page, (swapped, unknown, answer) in enumerate(zip(*said, real, strict=True)):
        assert unknown or swapped == answer, page


# States.


def by_page(runs, start, end):
    """The state of each page of a span, run by run."""
    answer = [0] * ((end - start) // PAGE)
    for low, high, state in runs.tolist():
        for address in range(max(low, start), min(high, end), PAGE):
            answer[(address - start) // PAGE] = state
    return answer


def check_runs(runs, mappings):
    """What is promised of the runs, whatever is in them."""
    assert runs.dtype == fpm.RUN_DTYPE
    owners = []
    for low, high, state in runs.tolist():
        assert low < high
        assert not (low | high) % PAGE
        assert state
        (owner,) = [m for m in mappings if m.start <= low and high <= m.end]
        owners.append(owner)
    known = zip(runs.tolist(), owners, strict=True)
    for (one, owner), (other, its) in itertools.pairwise(known):
        assert one[1] <= other[0]
        assert one[1] < other[0] or one[2] != other[2] or owner != its


def check_states(pm, start, end):
    """Compare with the twin (root); return the state of each page."""
    truth, (mappings, runs) = while_still(
        lambda: _ask_states(pm, start, end), lambda: Truth.of(start, end, pm.pid)
    )
    return _compare_states(mappings, runs, truth, None, start, end)


def _ask_states(pm, start, end):
    mappings = [m for m in pm.mappings() if m.start < end and start < m.end]
    return mappings, pm.states(mappings)


def _compare_states(mappings, runs, truth, said, start, end):
    """Page by page; of swap, states say what the masks say (`said`), or else the twin."""
    check_runs(runs, mappings)
    told = by_page(runs, start, end)
    said = said or Said(*zip(*map(_swap_of_page, truth.words, truth.in_files), strict=True))
    rows = zip(told, truth.words, truth.meanings(), *said, strict=True)
    for page, (state, word, meaning, swapped, unknown) in enumerate(rows):
        expected = meaning.present * State.PRESENT | swapped * State.SWAPPED
        expected |= meaning.shared * State.SHARED | meaning.exclusive * State.EXCLUSIVE
        expected |= meaning.soft_dirty * State.SOFT_DIRTY | oracle.decode(word).guard * State.GUARD
        expected |= unknown * State.UNKNOWN
        expected |= (swapped and not meaning.swapped) * State.SWAPPED_SHARED
        assert state & ~int(SCANNED) == expected, page
    return told


def _swap_of_page(word, in_file):
    """(swapped, unknown) of one page, as root is to be told."""
    meaning = oracle.meaning(word)
    return meaning.swapped or (in_file is True and not meaning.present), False
