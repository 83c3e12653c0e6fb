"""Metrics of processes that keep their memory locked, of several threads, and after a fork."""

import concurrent.futures
import contextlib
import threading
import time

import pytest

import runas
from locked import Locked

pytest.importorskip("prometheus_client")

from fastpagemap.metrics import Collector
from fastpagemap.metrics.counting import Counter
from fastpagemap.metrics.errand import MAX_LEFT_BEHIND
from fastpagemap.report.openmetrics import Amounts
from scraping import AGE, PROCESSES, UNREADABLE, counted, finish, scrape, sleepers

NAME = "it-is-locked"
#: Prometheus waits for so many seconds.
TIMEOUT = 10


def readers():
    return [each for each in threading.enumerate() if each.name == "fastpagemap-reading"]


def test_one_that_is_locked_is_unreadable(tmp_path):
    """And what the others have is told, within the time that a server waits."""
    with Locked(name=NAME) as locked, sleepers(tmp_path, b"one", b"two") as (one, two):
        collector = Collector([one, locked.pid, two], budget=0)
        before = scrape(collector)
        locked.lock()
        for _ in range(2):
            found = timely(collector)
            assert {key[1] for key in found if key[0] == PROCESSES} == {"one", "two"}
            assert (before[UNREADABLE], found[UNREADABLE]) == (0, 1)
        assert len(readers()) == 1  # it is not waited for again
        locked.unlock()
        for reader in readers():
            reader.join()
        found = scrape(collector)
        assert (found[PROCESSES, NAME], found[UNREADABLE]) == (1, 0)


def test_many_that_are_locked(tmp_path):
    """The others are read in the same scrape, and it ends in time."""
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(Locked(name=NAME)) for _ in range(4)]
        (other,) = stack.enter_context(sleepers(tmp_path, b"other"))
        for locked in many:
            locked.lock()
        collector = Collector([*(each.pid for each in many), other], budget=0)
        found = timely(collector)
        assert (found[UNREADABLE], found[PROCESSES, "other"]) == (4, 1)


def test_more_that_are_locked_than_may_be_waited_for(tmp_path):
    """Each scrape ends in time. What was read before is read again; what is new is left out."""
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(Locked(name=NAME)) for _ in range(MAX_LEFT_BEHIND + 2)]
        (other, new) = stack.enter_context(sleepers(tmp_path, b"other", b"new"))
        listed = [*(each.pid for each in many), other]
        collector = Collector(lambda: listed, budget=0)
        assert scrape(collector)[PROCESSES, NAME] == len(many)
        for locked in many:
            locked.lock()
        listed.append(new)
        while (found := timely(collector)).get((PROCESSES, "other")) is None:
            assert found[UNREADABLE] == len(listed)
        assert len(readers()) == len(many)
        assert (found[UNREADABLE], (PROCESSES, "new") in found) == (len(many) + 1, False)
        assert timely(collector) == found
        for locked in many:
            locked.unlock()
        for reader in readers():
            reader.join()
        found = scrape(collector)
    assert (found[PROCESSES, NAME], found[PROCESSES, "new"]) == (len(many), 1)


def timely(collector):
    """Scrape, while a server would wait."""
    began = time.monotonic()
    found = scrape(collector)
    assert time.monotonic() - began < TIMEOUT
    return found


def test_one_that_is_locked_after_it_was_read(tmp_path):
    """What is dear of other groups is counted all the same."""
    with Locked(name=NAME) as locked, sleepers(tmp_path, b"one") as (one,):
        groups = {NAME: Amounts([locked.pid]), "one": Amounts([one])}
        counter = Counter(1)
        locked.lock()
        counter.go_on({label: each.pids for label, each in groups.items()})
        finish()
        counter.tell(groups)
        assert not groups[NAME].sizes
        assert groups["one"].ages.keys() >= {"pss", "uss"}


def test_scrapes_at_once(tmp_path):
    """Each thread gets a whole answer."""
    with sleepers(tmp_path, b"one", b"two") as pids:
        collector = Collector(pids, budget=1)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for found in pool.map(scrape, [collector] * 16):
                assert {key[1] for key in found if key[0] == PROCESSES} == {"one", "two"}


def test_a_forked_child_scrapes(tmp_path):
    """Also where its parent was in the midst of a scrape, and counted what is dear."""
    with sleepers(tmp_path, b"one") as pids:
        begun, go_on = threading.Event(), threading.Event()

        def named():
            if threading.current_thread() is not threading.main_thread():
                begun.set()
                go_on.wait()
            return pids

        collector = Collector(named, budget=1)
        counted(collector)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            first = pool.submit(scrape, collector)
            begun.wait()
            in_child = runas.in_child(counted, collector)
            go_on.set()
            assert first.result()[PROCESSES, "one"] == 1
    assert in_child[PROCESSES, "one"] == 1
    assert any(key[0] == AGE for key in in_child)
