"""What a group has in swap: private memory by its slot, shared memory by file and page."""

import os

import pytest

import backed
import fastpagemap as fpm
import swap
from fastpagemap.engine import swap_places
from features import has_cachestat
from linux import PAGE
from namespaces import CLONE_NEWIPC, FIRST_PID_NAMESPACE
from needs import Absent, need
from oracle_group import slots
from sharer import Sharer
from victim import Victim

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("any_swap")]

PAGES = 300


#: What takes a look at all other processes.
OF_OTHERS = {"swapped_unique", "swapped_pss", "swapped_uss"}


def hold(row, **wanted):
    """Compare fields, in pages; those that are absent must be so for a reason."""
    for name, value in wanted.items():
        if name in OF_OTHERS and name not in row.dtype.names:
            assert not can_read_all(), name
        else:
            assert round(float(row[name]) / PAGE, 2) == value, name


def can_read_all():
    """Whether this process sees all processes, and may read what each one maps."""
    if os.stat("/proc/self/ns/pid").st_ino != FIRST_PID_NAMESPACE or not os.path.exists("/proc/1"):
        return False
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/maps", "rb") as file:
                file.read(1)
        except PermissionError:
            return False
        except (FileNotFoundError, ProcessLookupError):
            continue
    return True


def of_slots(*pids):
    """How many slots each of some processes has, all together, and each once."""
    found = [slots(pid) for pid in pids]
    return [each.total() for each in found], len(set().union(*found))


@pytest.fixture
def private(victim):
    """A victim and a child of it that share the slots of private memory."""
    made = victim.make("touched", PAGES)
    victim.pageout(made)
    return made, (victim.pid, victim.fork())


@pytest.fixture
def shared(victim):
    """A victim and a child of it that share a memfd, all of it in swap."""
    made = victim.make("memfd", PAGES)
    victim.pageout(made)
    return made, (victim.pid, victim.fork())


def test_private(private):
    _, pids = private
    each, once = of_slots(*pids)
    assert once >= PAGES
    with fpm.Group(pids) as group:
        total, rows = group.total(), group.usage()
    hold(total, swapped=sum(each), swapped_union=once, swapped_unique=once)
    for row, own in zip(rows, each, strict=True):
        hold(row, swapped=own, swapped_uss=0)
        hold(row, swapped_pss=own / 2)


def test_private_written_again(private):
    """What one has written since is in memory again, and its slot the other's alone."""
    made, pids = private
    made.do("write", 0, 100)
    each, once = of_slots(*pids)
    with fpm.Group(pids) as group:
        total, rows = group.total(), group.usage()
    hold(total, swapped=sum(each), swapped_union=once, swapped_unique=once)
    hold(rows[1], swapped_uss=100)
    hold(rows[0], swapped_uss=0)
    hold(rows[1], swapped_pss=(each[1] - 100) / 2 + 100)


def test_private_with_an_outsider(private):
    made, pids = private
    made.do("write", 0, 100)
    (own,), once = of_slots(pids[1])
    with fpm.Group(pids[1:]) as group:
        total, (row,) = group.total(), group.usage()
    hold(total, swapped=own, swapped_union=once, swapped_unique=100)
    hold(row, swapped_pss=(own - 100) / 2 + 100, swapped_uss=100)


def test_shared(shared):
    _, pids = shared
    each, once = of_slots(*pids)
    with fpm.Group(pids) as group:
        total, rows = group.total(), group.usage()
    wanted = once + PAGES
    hold(total, swapped=sum(each) + 2 * PAGES, swapped_union=wanted, swapped_unique=wanted)
    for row, own in zip(rows, each, strict=True):
        hold(row, swapped=own + PAGES, swapped_uss=0)
        hold(row, swapped_pss=(own + PAGES) / 2)


def test_shared_with_an_outsider(shared):
    _, pids = shared
    (own,), _ = of_slots(pids[0])
    with fpm.Group(pids[:1]) as group:
        total, (row,) = group.total(), group.usage()
    hold(total, swapped=own + PAGES, swapped_union=own + PAGES)
    hold(total, swapped_unique=0)
    hold(row, swapped_pss=(own + PAGES) / 2, swapped_uss=0)


def test_shared_and_mapped_twice(victim):
    """Each page of the file counts once, but in `swapped`."""
    made = victim.make("memfd", PAGES)
    victim.pageout(made)
    victim.ask("again_untouched", made.number, 2)
    (own,), _ = of_slots(victim.pid)
    with fpm.Group([victim]) as group:
        total, (row,) = group.total(), group.usage()
    once = own + PAGES
    hold(total, swapped=own + 3 * PAGES, swapped_union=once, swapped_unique=once)
    hold(row, swapped_pss=once, swapped_uss=once)


def test_files_that_look_alike(victim):
    """Two files of shared memory are two, though all are on the kernel's own tmpfs."""
    kinds = "memfd", "shared_anonymous", "sysv", "sysv"
    for kind in kinds:
        victim.pageout(victim.make(kind, PAGES))
    (own,), _ = of_slots(victim.pid)
    with fpm.Group([victim]) as group:
        total = group.total()
    wanted = own + len(kinds) * PAGES
    hold(total, swapped=wanted, swapped_union=wanted, swapped_unique=wanted)


def test_segments_of_two_ipc_namespaces(victim):
    """The first segment of each one has the same id, which is its inode, and the same name."""
    with Victim() as other:
        for each in (victim, other):
            each.ask("unshare", CLONE_NEWIPC)
            each.pageout(each.make("sysv", PAGES))
        pids = victim.pid, other.pid, other.fork()
        (one, two, three), once = of_slots(*pids)
        with fpm.Group(pids) as group:
            total, rows = group.total(), group.usage()
        hold(total, swapped=one + two + three + 3 * PAGES)
        hold(total, swapped_union=once + 2 * PAGES, swapped_unique=once + 2 * PAGES)
        with fpm.Group(pids[:1]) as group:
            alone = group.total()
    hold(alone, swapped_unique=one + PAGES)
    hold(rows[0], swapped_uss=one + PAGES)
    hold(rows[1], swapped_uss=0)


def test_a_file_of_an_overlay_and_of_its_layer():
    """One process has mapped the overlay's, another one the layer's: the pages are the same."""
    need(has_cachestat(), "cachestat (Linux 6.5)", Absent)
    kept = []

    def map_file(path):
        kept.append(backed.mapped(os.open(path, os.O_RDWR), PAGES))

    with (
        backed.mounted("tmpfs") as base,
        Sharer({"map": map_file}) as one,
        Sharer({"map": map_file}) as other,
    ):
        names = "lower", "upper", "work"
        for name in names:
            os.mkdir(f"{base}/{name}")
        options = ",".join(f"{name}dir={base}/{name}" for name in names)
        with backed.mounted("overlay", options) as directory:
            with open(f"{directory}/file", "wb") as file:
                file.truncate(PAGES * PAGE)
            one.ask("map", f"{directory}/file")
            other.ask("map", f"{base}/upper/file")
            fd = os.open(f"{base}/upper/file", os.O_RDWR)
            with backed.mapped(fd, PAGES).write() as made:
                swap.pageout(made.start, made.end)
            each, once = of_slots(one.pid, other.pid)
            with fpm.Group([one.pid, other.pid]) as group:
                total = group.total()
            hold(total, swapped=sum(each) + 2 * PAGES, swapped_union=once + PAGES)
            with fpm.Group([one.pid]) as group:
                alone = group.total()
            # What both have from their parent is not theirs alone either.
            hold(alone, swapped_union=each[0] + PAGES, swapped_unique=0)


def test_ended_meanwhile(private):
    _, pids = private
    with Victim() as other, fpm.Group([*pids, other.pid]) as group:
        other.kill()
        each, once = of_slots(*pids)
        hold(group.total(), swapped=sum(each), swapped_union=once)
        assert group.ended == (other.pid,)


def test_shared_in_part_with_an_outsider(shared):
    """The outsider maps the last third of the file alone."""
    made, pids = shared
    made.do("unmap", 0, 200)
    (own,), _ = of_slots(pids[1])
    (slots_of_other,), _ = of_slots(pids[0])
    with fpm.Group(pids[1:]) as group:
        total, (row,) = group.total(), group.usage()
    hold(total, swapped=own + PAGES, swapped_union=own + PAGES)
    if own == slots_of_other == 0:
        hold(total, swapped_unique=200)
        hold(row, swapped_pss=250, swapped_uss=200)


def test_an_outsider_that_does_not_fit_into_memory(private, monkeypatch):
    """What others have is unknown then; what the group has is not. It would take 4 GiB of swap."""
    _, pids = private
    real = swap_places.locations

    def locations(process):
        if process.pid == pids[0]:
            raise MemoryError
        return real(process)

    monkeypatch.setattr(swap_places, "locations", locations)
    (own,), once = of_slots(pids[1])
    with fpm.Group(pids[1:]) as group:
        total, rows = group.total(), group.usage()
    hold(total, swapped=own, swapped_union=once)
    assert {*total.dtype.names, *rows.dtype.names}.isdisjoint(OF_OTHERS)
