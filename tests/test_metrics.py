"""Metrics of processes, collected as prometheus_client does, next to smaps and Group."""

import concurrent.futures
import os
import resource
import threading

import pytest

import cgroups
import fastpagemap as fpm
import linux
import memory
import oracle
import runas
from fastpagemap.process.cgroups import cgroup_of
from sharer import Sharer
from victim import Victim, parted

prometheus_client = pytest.importorskip("prometheus_client")

from fastpagemap.metrics import Collector  # noqa: E402
from scraping import (  # noqa: E402
    AGE,
    MEMORY,
    ODD_NAMES,
    PROCESSES,
    counted,
    finish,
    scrape,
    sleepers,
    values,
)

CHEAP = {"virtual", "resident", "swapped", "swapped_shared", "unknown"}
PAGES = 1000


def test_the_memory_of_a_group_is_that_in_smaps():
    """Without [vvar], of which smaps has no pages, and the zero page, which it leaves out."""
    with Victim() as one, Victim() as other:
        one.make("touched", PAGES)
        other.make("huge", memory.huge_page_pages())
        found = scrape(Collector([one.pid, other], budget=0))
        sizes = [each for it in (one, other) for each in oracle.smaps(it.pid).values()]
        (name,) = {key[1] for key in found if key[0] == PROCESSES}
    its = values(found, MEMORY, name)
    assert (found[PROCESSES, name], its.keys() - {"huge"}) == (2, CHEAP)
    assert its["virtual"] == sum(each["Size"] for each in sizes)
    rss = sum(each["Rss"] for each in sizes)
    assert PAGES * fpm.PAGE_SIZE < rss <= its["resident"] <= rss + 64 * fpm.PAGE_SIZE
    if "huge" in its:
        assert its["huge"] == sum(each["AnonHugePages"] for each in sizes)
    assert its["swapped"] == sum(each["Swap"] for each in sizes)
    assert found["fastpagemap_unreadable_processes",] == 0
    assert not values(found, AGE, name)


@pytest.mark.root
def test_what_is_dear_is_counted_after_a_scrape():
    """Of a process and its child, which share all they have with nobody else."""
    with parted() as victim:
        victim.make("touched", PAGES)
        pids = [victim.pid, victim.fork()]
        collector = Collector(pids, budget=1)
        first, found = scrape(collector), counted(collector)
        with fpm.Group(pids) as group:
            total, members = group.total(), group.usage()
        (name,) = {key[1] for key in found if key[0] == PROCESSES}
    assert values(first, MEMORY, name).keys() - {"huge"} == CHEAP
    its = values(found, MEMORY, name)
    assert its["proportionalResident"] == pytest.approx(members["pss"].sum(), rel=1e-3)
    assert its["uss"] == members["uss"].sum()
    assert (its["union"], its["swapped_union"]) == (total["union"], total["swapped_union"])
    assert its["union"] < its["resident"] - PAGES * fpm.PAGE_SIZE
    ages = values(found, AGE, name)
    assert ages.keys() == {"proportionalResident", "uss", "union", "swapped_union"}
    assert all(0 <= age < 60 for age in ages.values())


def test_a_budget_that_is_spent_lasts(tmp_path):
    """What comes first takes more than there is: nothing else is counted for hours."""
    with sleepers(tmp_path, b"first", b"second") as pids:
        collector = Collector(pids, budget=1e-9)
        for _ in range(3):
            found = counted(collector)
            assert len({key[1] for key in found if key[0] == AGE}) == 1
        none = counted(Collector(pids, budget=0))
        assert not [key for key in none if key[0] == AGE]
        all_of_it = counted(Collector(pids, budget=1))
        assert {key[1] for key in all_of_it if key[0] == AGE} == {"first", "second"}


@pytest.mark.root
def test_a_large_group_leaves_files_for_others(victim):
    """A server that has no file left can answer nobody: what needs too many is not there."""
    pids = [victim.pid, *(victim.fork() for _ in range(30))]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (180, limits[1]))
    try:
        found = counted(Collector(pids, budget=1))
        few = counted(Collector(pids[:3], budget=1))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert {key[2] for key in found if key[0] == AGE} == {"proportionalResident", "uss"}
    assert "union" in {key[2] for key in few if key[0] == AGE}


def test_names_of_any_bytes(tmp_path):
    with sleepers(tmp_path, *ODD_NAMES) as pids:
        found = scrape(Collector(pids, budget=0))
    assert {key[1] for key in found if key[0] == PROCESSES} == set(ODD_NAMES.values())


def test_groups_have_a_bound(tmp_path):
    with (
        sleepers(tmp_path, b"one", b"one", b"two", b"three", b"other") as pids,
        Victim() as large,
    ):
        large.make("touched", PAGES)
        whole = scrape(Collector([*pids, large.pid], budget=0))
        some = scrape(Collector([*pids, large.pid], budget=0, top=2))
        none = scrape(Collector([*pids, large.pid], budget=0, top=0))
    members = {key[1]: value for key, value in some.items() if key[0] == PROCESSES}
    assert members.pop("one") == 2
    assert members.pop("other") == 3
    assert list(members.values()) == [1]
    assert {key[1] for key in none if key[0] == PROCESSES} == {"other"}
    for memtype in CHEAP:
        sums = [
            sum(value for key, value in found.items() if key[0] == MEMORY and key[2] == memtype)
            for found in (whole, some, none)
        ]
        assert sums[0] == sums[1] == sums[2]


def test_processes_that_have_ended_are_in_no_group(tmp_path):
    with sleepers(tmp_path, b"stays", b"ends") as (stays, ends), Victim() as victim:
        collector = Collector(lambda: iter([stays, ends, victim.pid]), budget=1)
        assert (PROCESSES, "ends") in counted(collector)
        victim.exit()  # a zombie
        os.kill(ends, 9)
        os.waitid(os.P_PID, ends, os.WEXITED | os.WNOWAIT)
        found = counted(collector)
    assert {key[1] for key in found if len(key) > 1} == {"stays"}
    assert found["fastpagemap_unreadable_processes",] == 0
    assert list(scrape(collector)) == [("fastpagemap_unreadable_processes",)]


def test_a_group_that_comes_again_is_a_new_one(tmp_path):
    """Its values are not those of the processes that had ended."""
    named = []
    collector = Collector(lambda: named, budget=1)
    for turn in ("first", "second"):
        (tmp_path / turn).mkdir()
        with sleepers(tmp_path / turn, b"again") as pids:
            named[:] = pids
            assert not values(scrape(collector), AGE, "again")
            assert values(counted(collector), AGE, "again")
            finish()  # once more, before they end
        named.clear()
        scrape(collector)


def test_a_group_is_counted_once_a_scrape(victim):
    """The thread ends before it has spent what there is."""
    collector = Collector([victim.pid], budget=1)
    for _ in range(3):
        counted(collector)
        assert collector._counter._left > 0


@pytest.mark.root
def test_those_of_other_users_are_counted_not_read():
    def look():
        with Sharer({}) as mine:
            return counted(Collector([mine.pid, victim.pid], budget=1))

    with Victim() as victim:
        found = runas.as_nobody(look)
    assert found["fastpagemap_unreadable_processes",] == 1
    (name,) = {key[1] for key in found if key[0] == PROCESSES}
    its = values(found, MEMORY, name)
    assert its["uss"] <= its["proportionalResident"] <= its["resident"]
    assert "union" not in its  # needs CAP_SYS_ADMIN


def test_all_processes_there_are(tmp_path):
    collector = Collector(budget=0, top=10_000)
    with sleepers(tmp_path, b"comes-later"):
        assert (PROCESSES, "comes-later") in scrape(collector)
    assert (PROCESSES, "comes-later") not in scrape(collector)


@pytest.mark.root
def test_cgroups_and_units(tmp_path):
    with (
        cgroups.own() as path,
        cgroups.unit(f"test-{os.getpid()}.slice/web.service") as unit,
        sleepers(tmp_path, b"web") as pids,
    ):
        for directory in (path, unit):
            linux.write_text(f"{directory}/cgroup.procs", pids[0])
        with open(f"/proc/{pids[0]}/cgroup", "rb") as file:
            its = cgroup_of(file.read())
        for by, name in (("unit", "web.service"), ("cgroup", its)):
            assert scrape(Collector(pids, by=by, budget=0))[PROCESSES, name] == 1


def test_a_registry_reads_nothing():
    def refuse():
        raise AssertionError

    registry = prometheus_client.CollectorRegistry(auto_describe=True)
    registry.register(Collector(refuse))
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(Collector(refuse))


def test_a_scrape_that_hangs_ends_the_next_one():
    begun, go_on = threading.Event(), threading.Event()

    def wait():
        begun.set()
        go_on.wait()
        return [os.getpid()]

    collector = Collector(wait)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(scrape, collector)
        begun.wait()
        with pytest.raises(TimeoutError, match="another scrape still goes on"):
            scrape(collector)
        go_on.set()
        assert first.result()
    assert scrape(collector)


@pytest.mark.parametrize(
    "wrong", [{"budget": 1.1}, {"budget": -1}, {"budget": float("nan")}, {"by": "x"}, {"top": -1}]
)
def test_wrong_arguments(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        Collector([os.getpid()], **wrong)


def test_no_part_of_a_group():
    with pytest.raises(TypeError):
        Collector([os.getpid()], top=1.5)
