"""Which pages of shared memory are swapped: told exactly, wherever the kernel can be asked."""

import errno
import itertools
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import backed
import fastpagemap as fpm
import kinds
import linux
import marked
import memory
import oracle
import oracle_files
import runas
import seccomp
import sharing
import swap
from compare import ask, check, while_still
from fastpagemap._kernel import pagecache
from features import has_cachestat
from linux import PAGE
from needs import Absent, need
from painted import around, ask_painted
from sharing import expected, file_of, paint
from victim import Victim

#: Long runs and short ones, every state beside every other.
LAYOUT = "S" * 40 + "..." + "SC" * 10 + "S." * 8 + "F" * 20 + "PPSs" + "SSFsSPsSCSS..s" + "C" * 20
LAYOUT += "S" * 17 + "." + "FSPCs.CFP.sFCPS" + "s" * 19
#: Pages of a private mapping's own over pages of the file in every state.
OWN = "".join(
    "." if letter == "P" else own  # which is read, and must not bring an own page back
    for letter, own in zip(LAYOUT, itertools.cycle("ooOO......oOo.oOO"), strict=False)
)

PAGES = len(LAYOUT)


@pytest.fixture
def _cachestat():
    need(has_cachestat(), "cachestat (Linux 6.5)", Absent)


# The truth table.


@pytest.mark.root
@pytest.mark.usefixtures("_cachestat")
@pytest.mark.parametrize("kind", sorted(sharing.KINDS))
def test_truth_table(kind, swap_area):
    own = OWN if kind in sharing.PRIVATE else ""

    def look(made):
        sharing.in_place(made, LAYOUT)
        check(pm, *around(made))
        return check(pm, made.start, made.end)

    with sharing.KINDS[kind](PAGES) as made, fpm.PageMap() as pm:
        assert ask_painted(made, LAYOUT, own, look).swapped == expected(LAYOUT, own)


@pytest.mark.root
@pytest.mark.usefixtures("_cachestat")
@pytest.mark.parametrize("kind", sorted(sharing.KINDS))
def test_of_two_processes(kind, any_swap):
    """The page table is each process's own, the file is both's."""
    own = OWN if kind in sharing.PRIVATE else ""

    def change_and_check():
        made.read(0, PAGES, 3)
        with fpm.PageMap() as mine:
            return check(mine, *around(made))

    with sharing.KINDS[kind](PAGES) as made, fpm.PageMap() as pm:
        paint(made, LAYOUT, own)
        before = check(pm, *around(made))
        said = runas.in_child(change_and_check)
        assert sum(said.swapped) < sum(before.swapped)
        check(pm, *around(made))


@pytest.mark.root
@pytest.mark.usefixtures("_cachestat")
def test_huge_pages(any_swap):
    """A huge page is in swap as one entry of its file, of which a mapping may show a part."""
    each = memory.huge_page_pages()
    with sharing.huge_in_swap([True, False, True, True]) as made, fpm.PageMap() as pm:
        check(pm, made.start, made.end)
        made.read(3 * each, 3 * each + 3)
        sharing.punch(made.fd, 3 * each - 20, 3 * each - 5)
        check(pm, made.start, made.end)
        with backed.mapped(os.dup(made.fd), 2 * each, offset=each // 2) as part:
            # smaps counts the whole of what it shows a part of
            said = ask(pm, part.start, part.end)
            assert said.swapped == oracle_files.swapped(part.start, part.end)
            assert not any(said.unknown)


@pytest.mark.root
@pytest.mark.usefixtures("_cachestat")
@pytest.mark.parametrize("kind", ["shared_anonymous", "memfd", "memfd_private"])
def test_markers(kind, any_swap):
    """A marker in a shared mapping hides nothing; in a private one it is a page of its own."""
    with sharing.KINDS[kind](PAGES) as made, fpm.PageMap() as pm:
        paint(made, LAYOUT)
        marked.mark(made, 20, PAGES - 20)
        words = oracle.words(made.start, made.end)
        assert sum(oracle.decode(word).swapped for word in words) > PAGES // 2
        said = check(pm, made.start, made.end)
        hidden = slice(20, PAGES - 20) if kind == "memfd_private" else slice(0)
        assert not any(said.swapped[hidden])


@pytest.mark.root
@pytest.mark.usefixtures("_cachestat")
@pytest.mark.parametrize("query", [True, False], ids=["query", "text"])
def test_a_sysv_segment_numbered_0(query, any_swap):
    """Its inode is its number: and 0 is no sign that there is no file."""

    def check_it():
        if not query:
            seccomp.without_procmap_query()
        linux.write_text("/proc/sys/kernel/shm_next_id", 0)
        with backed.sysv(PAGES) as made, fpm.PageMap() as pm:
            (line,) = [line for line in oracle.maps() if line.start == made.start]
            need(line.inode == 0, "a SysV segment numbered 0", Absent)
            paint(made, LAYOUT)
            check(pm, *around(made))
            (mapping,) = [m for m in pm.mappings() if m.start == made.start]
            assert not mapping.anonymous

    need(os.path.exists("/proc/sys/kernel/shm_next_id"), "SysV segments of a given number", Absent)
    runas.in_child(check_it)


# Part of a mapping, and part of what is asked.


@pytest.fixture(scope="module")
def painted():
    """Random pages of a memfd, 3000 of them, in runs; some are in swap."""
    need(os.geteuid() == 0, "root")
    need(has_cachestat(), "cachestat (Linux 6.5)", Absent)
    random = np.random.default_rng(1)
    lengths = random.choice([1, 1, 2, 3, 20, 60], 100).tolist()
    letters = random.choice([*"SCF.P"], 100).tolist()
    layout = "".join(letter * n for letter, n in zip(letters, lengths, strict=True))
    layout = (layout + "S" * 900 + "S." * 400 + "C" * 900)[-3000:]
    assert len(layout) == 3000
    # in swap of its own, or the pages come back when others take theirs away
    with swap.zram_swap(64 << 20, priority=32500), backed.memfd(3000, offset=7) as made:
        paint(made, layout)
        assert sum(oracle_files.swapped(made.start, made.end)) > 1000
        yield made


bounds = st.tuples(st.integers(0, 3000), st.integers(0, 3000)).map(sorted)


@given(bounds)
def test_any_part(painted, part):
    start, end = map(painted.at, part)

    def look():
        return pm.swapped(start, end), pm.read(start, end).swapped, pm.unknown(start, end)

    with fpm.PageMap() as pm:
        real, (mask, of_entries, unknown) = while_still(
            look, lambda: oracle_files.swapped(start, end)
        )
    assert mask.tolist() == of_entries.tolist() == real
    assert not unknown.any()


def resolved_by(look, made, first, asked, swapped):
    """Have one look of pagecache's at a file; return its masks, `unresolved` and `swapped`."""
    unresolved, swapped = asked.astype(np.uint8), swapped.astype(np.uint8)
    with file_of(made) as (fd, offset):
        fd = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
        try:
            count = look(fd, "file", offset + first, unresolved, swapped)
        finally:
            os.close(fd)
    return count, unresolved, swapped


@given(bounds, st.integers(0, 2**32), st.sampled_from([1, 2, 9, 50]))
def test_any_pages_asked_for(painted, part, seed, run):
    """Those that were asked for are told, those that were not stay what they are."""
    made = painted
    first, last = part[0], part[1] + 1 if part[0] == part[1] else part[1]
    if last > 3000:
        return
    random = np.random.default_rng(seed)
    asked = np.repeat(random.integers(0, 2, last - first) > 0, run)[: last - first]
    already = ~asked & (random.integers(0, 4, last - first) == 0)
    real, (count, unresolved, swapped) = while_still(
        lambda: resolved_by(pagecache.by_cachestat, made, first, asked, already),
        lambda: oracle_files.swapped(made.at(first), made.at(last)),
    )
    real = np.array(real)
    assert not unresolved.any()
    assert (swapped == np.where(asked, real, already)).all()
    assert count == (asked & real).sum()


# Before cachestat.


@pytest.mark.root
@pytest.mark.usefixtures("_cachestat")
@pytest.mark.parametrize("kind", sorted(set(sharing.KINDS) - {"twice"}))
def test_by_mincore(kind, swap_area):
    """Data that is not in core, by the page: a copy in the swap cache is all it is wrong about."""
    with sharing.KINDS[kind](PAGES) as made:
        every = np.ones(PAGES, bool)

        def file_pages():  # the kernel gives copies up whenever it likes
            with file_of(made) as (fd, first):
                return [oracle_files.file_page(fd, first + page) for page in range(PAGES)]

        def painted():
            paint(made, LAYOUT)
            return file_pages()

        def look():
            return resolved_by(pagecache.by_mincore, made, 0, every, ~every)

        rows, (count, unresolved, swapped) = while_still(look, painted, file_pages)
    assert swapped.tolist() == [row.data and not row.incore for row in rows]
    assert (swapped <= [row.evicted for row in rows]).all()
    assert count == swapped.sum()
    assert not unresolved.any()
    assert count or "zram" not in swap_area


@pytest.mark.root
@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM], ids=errno.errorcode.get)
@pytest.mark.parametrize("kind", sorted(sharing.SHARED))
def test_without_cachestat(kind, error, swap_area):
    def answer():
        seccomp.without_cachestat(error)
        with fpm.PageMap() as pm:
            return ask(pm, made.start, made.end)

    def look(made):
        def wanted():  # the kernel gives copies up whenever it likes
            return sharing.told_by_mincore(made, LAYOUT)

        swapped, said = while_still(lambda: runas.in_child(answer), wanted)
        assert said.swapped == swapped
        assert not any(said.unknown)

    with sharing.KINDS[kind](PAGES) as made:
        ask_painted(made, LAYOUT, look=look)


# Every process.


@pytest.mark.root
@pytest.mark.usefixtures("_cachestat")
def test_the_sums_of_every_process_that_holds_still(swap_area):
    with Victim() as victim:
        for kind in sorted(set(kinds.ALL) - kinds.STAYING - {"overlay"}):
            victim.pageout(victim.make(kind, 40))
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        told = {pid: swapped_or_gone(pid) for pid in pids}
        assert told[victim.pid] > 1000 * PAGE
        assert sum(swapped is not None for swapped in told.values()) > 2


def swapped_or_gone(pid):
    """The bytes in swap on which usage() and smaps agree; None for one gone or out of reach."""
    try:
        with fpm.PageMap(pid) as pm:
            before, table = while_still(pm.usage, lambda: sum(oracle.swap_sums(pid).values()))
        doubles = sum(oracle.counts_twice(line, pid) for line in oracle.maps(pid))
    except (ProcessLookupError, FileNotFoundError, PermissionError):
        return None
    assert table["swapped"].sum() == before or doubles, pid
    assert not table["unknown"].any(), pid
    return before
