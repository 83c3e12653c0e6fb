"""A process that forks, execs and exits while it is looked at, and an object that is closed."""

import contextlib
import os
import threading
import time

import numpy as np
import pytest

import fastpagemap as fpm
import memory
import runas
import swap
from linux import PAGE
from reused import process_with
from victim import Victim

PAGES = 16

pytestmark = pytest.mark.usefixtures("_nothing_stays_open")

#: Everything that asks the kernel something.
METHODS = {
    "mappings": lambda pm, start, end: pm.mappings(),
    "read": lambda pm, start, end: pm.read(start, end),
    "masks": lambda pm, start, end: pm.masks(start, end),
    "present": lambda pm, start, end: pm.present(start, end),
    "swapped": lambda pm, start, end: pm.swapped(start, end),
    "unknown": lambda pm, start, end: pm.unknown(start, end),
    "shared": lambda pm, start, end: pm.shared(start, end),
    "exclusive": lambda pm, start, end: pm.exclusive(start, end),
    "usage": lambda pm, start, end: pm.usage(),
    "pid": lambda pm, start, end: pm.pid,
    "with": lambda pm, start, end: pm.__enter__(),
}
ASKING = sorted(set(METHODS) - {"pid", "with"})


@pytest.mark.parametrize("name", METHODS)
def test_closed(name):
    pm = fpm.PageMap()
    pm.close()
    pm.close()
    with pytest.raises(ValueError, match="closed"):
        METHODS[name](pm, 0, PAGE)
    assert "closed" in repr(pm)


def test_leaving_the_context_closes():
    with fpm.PageMap() as pm:
        pass
    with pytest.raises(ValueError, match="closed"):
        pm.mappings()


@pytest.fixture(params=["", "any_swap"], ids=["", "swap in use"])
def _swap_or_none(request):
    """What is swapped anywhere decides how much has to be asked."""
    if request.param:
        request.getfixturevalue(request.param)
        with memory.touched(PAGES) as made:
            swap.pageout(made.start, made.end)
            yield
    else:
        yield


@pytest.mark.usefixtures("_swap_or_none")
@pytest.mark.parametrize("name", ASKING)
def test_after_exit(name):
    with Victim() as victim:
        span = victim.make("touched", PAGES)
        with fpm.PageMap(victim.pid) as pm:
            METHODS[name](pm, span.start, span.end)
            victim.exit()  # a zombie now
            with pytest.raises(ProcessLookupError):
                METHODS[name](pm, span.start, span.end)
            victim.kill()  # and now gone
            with pytest.raises(ProcessLookupError):
                METHODS[name](pm, span.start, span.end)


@pytest.mark.usefixtures("_swap_or_none")
@pytest.mark.parametrize("name", ASKING)
def test_after_exec(name):
    with Victim() as victim:
        span = victim.make("touched", PAGES)
        with fpm.PageMap(victim.pid) as pm:
            METHODS[name](pm, span.start, span.end)
            victim.exec()
            with pytest.raises(ProcessLookupError):
                METHODS[name](pm, span.start, span.end)
        with fpm.PageMap(victim.pid) as pm:
            assert pm.mappings()


def test_an_empty_span_of_a_process_that_is_gone():
    """Nothing is asked for, and nothing can be said wrongly: both answers are right."""
    with Victim() as victim, fpm.PageMap(victim.pid) as pm:
        victim.kill()
        with contextlib.suppress(ProcessLookupError):
            assert len(pm.present(0, 0)) == 0


def test_what_was_read_outlives_the_process():
    with Victim() as victim:
        span = victim.make("sparse", PAGES)
        with fpm.PageMap(victim.pid) as pm:
            pages = pm.read(span.start, span.end)
        victim.kill()
        assert pages.present.tolist() == [page % 3 == 0 for page in range(PAGES)]
        assert not pages.swapped.any()
        # Which pages were shared memory can no longer be known.
        assert not (pages.unknown & pages.present).any()


def test_while_it_exits():
    """Every answer is a whole one, until there is none."""

    def ask_on(pm, span):
        while True:
            assert pm.present(span.start, span.end).all()
            assert (pm.read(span.start, span.end).entries["flags"] >> 15).all()

    for delay in np.linspace(0, 0.02, 12):
        with Victim() as victim:
            span = victim.make("touched", 20_000)
            timer = threading.Timer(delay, victim.kill)
            with fpm.PageMap(victim.pid) as pm:
                timer.start()
                with pytest.raises(ProcessLookupError):
                    ask_on(pm, span)
            timer.join()


def test_after_fork_the_default_is_the_child():
    with memory.touched(PAGES) as made, fpm.PageMap() as pm:
        before = pm.present(made.start, made.end)

        def ask():
            made.drop(0, PAGES // 2)
            own = repr(pm) == f"<PageMap: process {os.getpid()}>"
            return own and pm.pid == os.getpid(), pm.present(made.start, made.end).tolist()

        half = [False] * (PAGES // 2) + [True] * (PAGES // 2)
        assert runas.in_child(ask) == (True, half)
        assert before.all()
        assert pm.pid == os.getpid()
        assert pm.present(made.start, made.end).all()


def test_after_fork_a_named_process_stays_what_it_is():
    with memory.touched(PAGES) as made, fpm.PageMap(os.getpid()) as pm:

        def ask():
            made.drop()
            return pm.pid, pm.present(made.start, made.end).all()

        assert runas.in_child(ask) == (os.getpid(), True)


def test_closing_in_a_forked_child_does_not_close_for_the_parent():
    with fpm.PageMap() as pm:
        runas.in_child(pm.close)
        assert pm.mappings()


@pytest.mark.root
def test_a_reused_pid_is_not_read_by_mistake():
    with Victim() as victim:
        span = victim.make("touched", PAGES)
        with fpm.PageMap(victim.pid) as pm:
            victim.kill()
            with process_with(victim.pid) as other:
                assert fpm.PageMap(other).mappings()
                for name in ASKING:
                    with pytest.raises(ProcessLookupError):
                        METHODS[name](pm, span.start, span.end)


def test_closing_while_others_read():
    """A thread in the middle of a call ends well, or is told; and reads no other file."""
    wrong = []

    def read(pm, start, end):
        try:
            while True:
                if not pm.present(start, end).all():
                    wrong.append("a page was lost")
        except ValueError as error:
            if "closed" not in str(error):
                wrong.append(error)

    with memory.touched(3000) as made:
        for _ in range(10):
            pm = fpm.PageMap()
            threads = [
                threading.Thread(target=read, args=(pm, made.start, made.end)) for _ in range(3)
            ]
            for thread in threads:
                thread.start()
            time.sleep(0.005)
            pm.close()
            for thread in threads:
                thread.join()
    assert not wrong


def test_many_threads_get_the_same_answers():
    answers = []
    with memory.touched(5000, step=3) as made, fpm.PageMap() as pm:
        threads = [
            threading.Thread(
                target=lambda: answers.append(pm.present(made.start, made.end).tobytes())
            )
            for _ in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == 16
    assert set(answers) == {bytes(page % 3 == 0 for page in range(5000))}
