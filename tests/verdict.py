"""What PageMap says of shared memory, next to the slow twin's word and smaps' sums."""

import itertools
import os
import re
import signal
from typing import NamedTuple

import fastpagemap as fpm
import linux
import memory
import oracle
import runas
from judge import ways
from linux import PAGE
from sharing import expected, has_cachestat, hide, paint

#: How often a process is looked at anew that did not hold still.
TRIES = 10


class Said(NamedTuple):
    """The masks `swapped` and `unknown`, as lists."""

    swapped: list
    unknown: list


def ask(pm, start, end):
    """What pm says by every way to ask it, which must all say the same."""
    pages = pm.read(start, end)
    answers = []
    for name in Said._fields:
        (_, mask), *others = ways(pm, pages, name)
        for way, other in others:
            assert other.tolist() == mask.tolist(), (name, way)
        answers.append(mask.tolist())
    said = Said(*answers)
    assert not any(itertools.starmap(lambda s, u: s and u, zip(*said, strict=True)))
    _usage_agrees(pm, start, end, said)
    return said


def _usage_agrees(pm, start, end, said):
    """Each row of usage() is the sum of the masks."""
    mappings = [m for m in pm.mappings() if start <= m.start and m.end <= end]
    for mapping, row in zip(mappings, pm.usage(mappings), strict=True):
        part = slice((mapping.start - start) // PAGE, (mapping.end - start) // PAGE)
        swapped = sum(said.swapped[part]) * PAGE
        assert row["swapped"] == swapped, mapping
        assert row["unknown"] == sum(said.unknown[part]) * PAGE, mapping
        own = 0
        if not mapping.shared:
            words = oracle.words(mapping.start, mapping.end, pm.pid)
            own = sum(oracle.meaning(word).swapped for word in words) * PAGE
        in_file = swapped - own if mapping.device else 0
        assert row["swapped_shared"] == in_file, mapping


def truth(start, end, pid="self"):
    """Of each page whether it is in swap: by its entry, or by its file, page by page (root)."""
    answers = [oracle.meaning(word).swapped for word in oracle.words(start, end, pid)]
    for line in oracle.maps(pid):
        if line.start < end and start < line.end:
            _add_file(line, start, end, pid, answers)
    return answers


def _add_file(line, start, end, pid, answers):
    # The kernel may remember that there was a file at the very same place, and refuse to open it.
    if line.device == "00:00":
        return
    try:
        fd = oracle.open_mapping(line.start, line.end, pid)
    except FileNotFoundError:  # no file
        return
    try:
        if linux.filesystem(fd) != linux.TMPFS_MAGIC:
            return
        for address in range(max(start, line.start), min(end, line.end), PAGE):
            # a private page, in memory or in swap, hides what the file has there
            (word,) = oracle.words(address, address + PAGE, pid)
            if "s" in line.permissions or not word >> 62:
                page = (line.offset + address - line.start) // PAGE
                answers[(address - start) // PAGE] = oracle.swapped_in_file(fd, page)
    finally:
        os.close(fd)


_SUMS = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) |^Swap: +(\d+) kB$", re.MULTILINE)


def sums(pid="self"):
    """The `Swap:` of every mapping as smaps has it, in bytes, by (start, end)."""
    with open(f"/proc/{pid}/smaps", "rb") as file:
        found = _SUMS.findall(file.read())  # a header and a sum, in turns
    spans = [(int(start, 16), int(end, 16)) for start, end, _ in found[::2]]
    return dict(zip(spans, [int(swap) * 1024 for _, _, swap in found[1::2]], strict=True))


def sums_are_right(start, end, answers, pid="self"):
    """Assert that smaps counts what the twin found, mapping by mapping."""
    swap = sums(pid)
    for line in oracle.maps(pid):
        if start <= line.start and line.end <= end and not counts_twice(line, pid):
            first, last = (line.start - start) // PAGE, (line.end - start) // PAGE
            assert swap[line.start, line.end] == sum(answers[first:last]) * PAGE, line


def counts_twice(line, pid):
    """Whether smaps may count what is under a mapping's own pages: where it is not writable."""
    if "s" in line.permissions or "w" in line.permissions or not line.inode:
        return False
    entries = map(oracle.decode, oracle.words(line.start, line.end, pid))
    return any(entry.swapped or (entry.present and not entry.file) for entry in entries)


def while_still(look, before, after=None):
    """Call look() until after() is what before() was; return that, and what look() said.

    Without `after`, before() is called again. Others may take away swap of theirs, with pages of
    ours in it.
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


def exact(pm, start, end):
    """Assert that every page is told, and rightly; return what was said of them."""

    def real():
        return truth(start, end, pm.pid)

    def look():
        sums_are_right(start, end, real(), pm.pid)
        return ask(pm, start, end)

    answers, said = while_still(look, real)
    assert said.swapped == answers
    assert not any(said.unknown)
    return said


def honest(said, real):
    """Assert that what was said is true, whatever else is left unknown."""
    for page, (swapped, unknown, answer) in enumerate(zip(*said, real, strict=True)):
        assert unknown or swapped == answer, page


def ask_as(made, *, uid=runas.NOBODY, capabilities=(), keep_fd=False, before=None):
    """What a child that is `uid` and has these capabilities is told of its own memory.

    Without a descriptor of the file, and after calling before(), unless told otherwise.
    """

    def answer():
        signal.alarm(10)  # opening a pipe would wait forever
        if not keep_fd:
            hide(made)
        if before:
            before()
        with fpm.PageMap() as pm:
            return ask(pm, made.start, made.end)

    return runas.run_as(answer, uid=uid, capabilities=capabilities)


def told(made, layout, own="", look=ask_as, **who):
    """Paint a memory and look(made, **who) at it; anew when others disturbed it meanwhile."""

    def painted():
        paint(made, layout, own)
        return expected(layout, own)

    def after():
        return truth(made.start, made.end) if has_cachestat() else expected(layout, own)

    return while_still(lambda: look(made, **who), painted, after)[1]


def all_unknown(said, layout):
    """Whether nothing is said of the pages that are in no process's page table."""
    told = [not u for u, letter in zip(said.unknown, layout, strict=True) if letter in "SsF."]
    return not any(said.swapped) and not any(told)


def around(made):
    """The span of a memory, and of the gap on both sides."""
    gap = (memory.GAP - 1) * PAGE
    return made.start - gap, made.end + gap
