"""pss and uss of mappings, against the counts of their frames and against smaps."""

import os

import pytest

import fastpagemap as fpm
import hugetlb
import memory
import oracle
import oracle_frames
import runas
from compare import while_still
from fastpagemap.cli.collect import collect
from features import need_page_counts
from linux import PAGE
from victim import Victim

KINDS = [
    *("touched", "zero", "huge", "huge_zero", "file_copied", "shared_anonymous", "memfd_private"),
    *("hugetlb", "hugetlb_shared"),
]


def counted(pid, start, end):
    """The frames of a span, and how often each is mapped."""
    pfns = [pfn for pfn in oracle_frames.pfns(start, end, pid) if pfn]
    return pfns, oracle_frames.values("kpagecount", pfns)


def twin(known, times=1):
    """pss, and uss, of a span that is mapped `times` times by this process, frame by frame."""
    counts = [count for count in known[1] if count]
    alone = sum(count <= times for count in counts)
    return sum(PAGE / count for count in counts), alone * PAGE / times


def shares(pid, start, end):
    with fpm.PageMap(pid) as pm:
        rows = [m for m in pm.mappings() if m.start < end and start < m.end]
        table = pm.usage(rows, fields=["pss", "uss"])
    return int(table["pss"].sum()), int(table["uss"].sum())


def while_unmoved(pid, start, end):
    """What counted() says of a span, and shares(), while the kernel moves none of its pages."""
    return while_still(lambda: shares(pid, start, end), lambda: counted(pid, start, end))


def agree(found, wanted, pages):
    """Each share may be rounded down by less than 1/65536 of a byte, and each row's sum."""
    for one, other in zip(found, wanted, strict=True):
        assert other - pages / 65536 - 64 <= one <= other


@pytest.mark.root
@pytest.mark.parametrize("kind", KINDS)
def test_forked(victim, kind):
    made = victim.make(kind, 2 * memory.huge_page_pages())
    pids = victim.pid, victim.fork(), victim.fork()
    if "hugetlb" not in kind:
        made.do("write", 5, 600, 7)
        made.do("drop", 100, 120)
    pages = (made.end - made.start) // PAGE
    for pid in pids:
        known, found = while_unmoved(pid, made.start, made.end)
        agree(found, twin(known), pages)


@pytest.mark.root
def test_huge_pages_shared_in_part(victim):
    """What the parent writes after fork is its own; the child keeps the huge page."""
    need_page_counts()
    each = memory.huge_page_pages()
    made = victim.make("huge", 2 * each)
    child = victim.fork()
    written = range(3, 2 * each, 5)
    made.do("write", written.start, written.stop, written.step)
    for pid in victim.pid, child:
        known, found = while_unmoved(pid, made.start, made.end)
        assert found[1] >= len(written) * PAGE
        agree(found, twin(known), 2 * each)


@pytest.mark.root
def test_mapped_three_times(victim):
    """Each mapping has a third of the pages, together they are the process's own."""
    made = victim.make("memfd", 300)
    victim.ask("again", made.number, 2)
    known, found = while_unmoved(victim.pid, made.start, made.end)
    agree(found, (100 * PAGE, 100 * PAGE), 300)
    agree(found, twin(known, 3), 300)


@pytest.mark.root
@pytest.mark.parametrize("kind", ["touched", "file_copied", "memfd", "memfd_private", "zero"])
def test_smaps(victim, kind):
    """The kernel rounds each share down to 1/4096 of a byte, and the sum to a KiB."""
    need_page_counts()
    made = victim.make(kind, 400)
    child = victim.fork()
    made.do("write", 0, 90)
    for pid in victim.pid, child:
        fields = oracle.smaps(pid)[made.start, made.end]
        _, (pss, uss) = while_unmoved(pid, made.start, made.end)
        assert abs(pss - fields["Pss"]) <= 1024 + 1
        assert uss == fields["Private_Clean"] + fields["Private_Dirty"]


def test_ordinary_user():
    """The sums of smaps; of a part of a mapping there are none."""
    with Victim(ordinary()) as victim:
        made = victim.make("touched", 400)
        fields = oracle.smaps(victim.pid)[made.start, made.end]

        def ask():
            with fpm.PageMap(victim.pid) as pm:
                (row,) = [m for m in pm.mappings() if m.start == made.start]
                found = pm.usage([row], fields=["pss", "uss"])
                for part in row._replace(end=row.end - PAGE), row._replace(start=row.start + PAGE):
                    with pytest.raises(fpm.UnsupportedError, match="the sums of whole mappings"):
                        pm.usage([part], fields=["pss"])
                made.do("protect", 1, 50, 100)
                assert len(memory_of(pm, made)) == 3
                assert pm.usage([row], fields=["pss", "uss"]) == found
                return found

        found = runas.as_nobody(ask)
    assert found["pss"][0] == fields["Pss"]
    assert found["uss"][0] == fields["Private_Clean"] + fields["Private_Dirty"]


def ordinary():
    return runas.NOBODY if os.geteuid() == 0 else None


def memory_of(pm, made):
    return [m for m in pm.mappings() if m.start < made.end and made.start < m.end]


def test_a_heap_that_grows_all_the_time():
    """Without privilege, too: rows and sums are of one reading."""

    def ask():
        for _ in range(50):
            with fpm.PageMap(grower.pid) as pm:
                table = pm.usage(fields=["start", "end", "pss", "uss"])
            assert (table["end"][:-1] <= table["start"][1:]).all()
            assert 0 < table["uss"].sum() <= table["pss"].sum()
            report = collect(grower.pid, fields=("size", "present", "pss", "uss"))
            assert report.usage["pss"].sum() > 0

    with Victim(ordinary()) as grower:
        grower.send("grow")
        runas.as_nobody(ask)


@pytest.mark.root
def test_shared_hugetlb_pages_of_an_ordinary_user():
    """By how many others they are mapped smaps does not tell: they count in rss alone."""

    def ask():
        made.write()
        with fpm.PageMap() as pm, fpm.Group([os.getpid()]) as group:
            (row,) = memory_of(pm, made)
            fields = oracle.smaps()[row[:2]]
            assert fields["Shared_Hugetlb"] == row.end - row.start
            assert pm.usage([row], fields=["pss", "uss"]).tolist() == [(0, 0)]
            (sums,) = group.usage()
            total = group.total()
        assert sums["rss"] - fields["Shared_Hugetlb"] >= sums["pss"]
        return total["pss"] < total["rss"] - fields["Shared_Hugetlb"]

    with hugetlb.hugetlb_shared(40 * memory.huge_page_pages()) as made:
        made.write()
        assert runas.as_nobody(ask)


def counted_by_row(pid, rows):
    return [counted(pid, start, end) for start, end in rows]


def agree_by_row(counts, rows, table):
    for row, known, (start, end) in zip(table, counts, rows, strict=True):
        found = int(row["pss"]), int(row["uss"])
        agree(found, twin(known), (end - start) // PAGE)


@pytest.mark.root
def test_each_mapping_has_its_own(victim):
    """Also behind memory that was only read, whose zero pages a scan finds without their frames."""
    for kind in "touched", "zero", "huge_zero", "touched", "zero":
        victim.make(kind, memory.huge_page_pages())
    with fpm.PageMap(victim.pid) as pm:
        # Others map the same files, and come and go.
        rows = [m[:2] for m in pm.mappings() if m.anonymous and m.path in ("", "[heap]")]
        counts, table = while_still(
            lambda: pm.usage(fields=["start", "end", "pss", "uss"]),
            lambda: counted_by_row(victim.pid, rows),
        )
    found = {(int(row["start"]), int(row["end"])): row for row in table}
    agree_by_row(counts, rows, [found[row] for row in rows])


@pytest.mark.root
@pytest.mark.parametrize("change", ["unmap", "protect"])
def test_mappings_that_have_changed_since(victim, change):
    """The rows are those that were asked for: some unmapped, or several mappings, meanwhile."""
    made = [victim.make("touched", pages) for pages in (40, 200, 30)]
    with fpm.PageMap(victim.pid) as pm:
        rows = [m for m in pm.mappings() if m[:2] in {(each.start, each.end) for each in made}]
        assert len(rows) == 3
        if change == "unmap":
            made[1].do("unmap", 0, 200)
        else:
            made[1].do("protect", 1, 50, 100)
        spans = [row[:2] for row in rows]
        counts, table = while_still(
            lambda: pm.usage(rows, fields=["pss", "uss"]),
            lambda: counted_by_row(victim.pid, spans),
        )
    agree_by_row(counts, spans, table)
    assert table["pss"].sum() > 0
