"""Which PAGEMAP_SCAN categories answer each question, by what backs a mapping.

A scan costs little for a page that does not match, more for one that does, and nothing where no
page table is. An entry costs more than either. So a plan says which pages a scan reports, which
categories it returns for them, and which pages' entries are read as well.
"""

import enum
import functools
from collections.abc import Iterable
from typing import NamedTuple

from .._kernel.plan import Plan
from ..model.entry import Category
from ..model.questions import NEVER_SHARED, Match
from ..model.runs import State
from ..process.probes import categories, one_entry_tells

__all__ = ["SCANNED", "Backing", "plan", "plans"]


class Backing(enum.IntEnum):
    """What backs a mapping, as far as that tells something about its pages."""

    # A file, a device, or not looked up: the pages may be anything.
    UNKNOWN = 0
    # No page is of a file. Entries say so of the huge zero page before Linux 7.3.
    ANONYMOUS = 1
    # Shared memory, mapped MAP_SHARED: every present page is of a file.
    SHMEM = 2
    # The kernel keeps no soft-dirty bits of these pages; a scan calls every present one dirty.
    HUGETLB = 3


class Row(NamedTuple):
    """How a scan answers one question."""

    # The scan reports pages with any of these; all others are answered as pages with none.
    anyof: Category
    # It returns these for each page that it reports.
    returns: Category
    # The pages whose entries have to be read as well.
    verified: Match | None = None


PRESENT, SWAPPED, HUGE = Category.PRESENT, Category.SWAPPED, Category.HUGE
HUGE_ZERO = Category.PFNZERO | HUGE
NONE = Category(0)


def _match(category: Category) -> Match:
    return Match(int(category), int(category))


# No category answers it: the entries of all present pages, and no others, have to be read.
_ENTRIES_TELL = Row(PRESENT, PRESENT, _match(PRESENT))
_NOT_ZERO = Match(int(PRESENT | Category.PFNZERO), int(PRESENT))
# A scan calls markers, migration and poison entries swapped: the swap type tells them apart.
_SWAP_TYPE_TELLS = Row(SWAPPED, SWAPPED, _match(SWAPPED))
_ALWAYS = {
    "present": Row(PRESENT, PRESENT),
    "not_present": Row(PRESENT, PRESENT),
    "empty": Row(PRESENT | SWAPPED, PRESENT | SWAPPED),
    "swapped": _SWAP_TYPE_TELLS,
    "swap_entry": _SWAP_TYPE_TELLS,
    "guard": _SWAP_TYPE_TELLS,
    "soft_dirty": Row(Category.SOFT_DIRTY, Category.SOFT_DIRTY),
    "huge": Row(HUGE, PRESENT | HUGE_ZERO),
    "zero": Row(Category.PFNZERO, PRESENT | HUGE_ZERO),
    "exclusive": _ENTRIES_TELL,
    "alone": _ENTRIES_TELL,
    # FILE would answer it, but slows a scan down, which then looks at every struct page.
    "shared": _ENTRIES_TELL,
    # The file answers these: see `shmem`.
    "swapped_shared": Row(NONE, NONE),
    "unknown": Row(NONE, NONE),
}
QUESTIONS = {
    Backing.UNKNOWN: _ALWAYS,
    Backing.HUGETLB: _ALWAYS,
    Backing.SHMEM: _ALWAYS | {"shared": Row(PRESENT, PRESENT)},
    Backing.ANONYMOUS: _ALWAYS | {"shared": Row(NONE, NONE)},
}
SCANNED = {"huge": "huge pages", "zero": "the zero page"}
"""The questions that entries do not answer, and what these do not tell."""
# The states of every present page of such memory, as far as asked, whatever a scan or entry says.
_PRESENT_STATE = {
    Backing.ANONYMOUS: NEVER_SHARED,
    Backing.SHMEM: int(State.SHARED),
    Backing.HUGETLB: int(State.SOFT_DIRTY),
}


def plan(backing: Backing, questions: frozenset[str]) -> Plan:
    """Return the plan that answers all questions at once."""
    return _plan(backing, questions, categories())


@functools.cache
def _plan(backing: Backing, questions: frozenset[str], told: Category) -> Plan:
    """Return the plan where a scan tells some categories."""
    table = QUESTIONS[backing]
    rows = [table[name] for name in questions]
    anyof = returns = NONE
    for row in rows:
        anyof |= row.anyof
        returns |= row.returns
    present_state = _PRESENT_STATE.get(backing, 0)
    if "soft_dirty" not in questions:
        present_state &= ~int(State.SOFT_DIRTY)
    if not told or (anyof | returns) & ~told:
        return Plan(scan=False, present_state=present_state)
    one_entry = one_entry_tells() or backing is Backing.HUGETLB or "exclusive" not in questions
    scanned = int(State.HUGE) if "huge" in questions or "zero" in questions else 0
    # Entries do not tell the huge zero page from pages of files.
    helps = one_entry or "shared" in questions
    if any(row is _ENTRIES_TELL for row in rows) and helps and HUGE_ZERO & told == HUGE_ZERO:
        scanned |= int(State.HUGE)
        returns |= HUGE_ZERO
    if "zero" in questions:
        scanned |= int(State.ZERO)
    verified = {row.verified for row in rows if row.verified}
    if returns & HUGE_ZERO == HUGE_ZERO and _ENTRIES_TELL.verified in verified:
        # The zero page is neither shared nor exclusive: a scan tells all about it.
        verified ^= {_ENTRIES_TELL.verified, _NOT_ZERO}
    return Plan(
        scan=True,
        anyof=int(anyof),
        returns=int(returns),
        complement=_may_complement(backing, rows, returns),
        verified=tuple(verified),
        present_state=present_state,
        scanned=scanned,
        one_entry=one_entry,
    )


def _may_complement(backing: Backing, rows: Iterable[Row], returns: Category) -> bool:
    """Return whether a scan for the pages that are not present answers all questions.

    It is cheaper where most pages are present. The questions must ask no more of present pages than
    that, and the kernel must walk every page: a scan reports nothing about device memory.
    """
    walked = backing in (Backing.ANONYMOUS, Backing.SHMEM)
    asked = any(row.anyof & PRESENT for row in rows) and not returns & ~(PRESENT | SWAPPED)
    return walked and asked and not any(row is _ENTRIES_TELL for row in rows)


def plans(questions: frozenset[str]) -> tuple[Plan, ...]:
    """Return a plan for each ``Backing``, in their order."""
    return _plans(questions, categories())


@functools.cache
def _plans(questions: frozenset[str], told: Category) -> tuple[Plan, ...]:
    return tuple(_plan(backing, questions, told) for backing in Backing)
