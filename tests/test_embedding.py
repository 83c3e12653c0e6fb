"""What those who embed the library count on: threads, forks, interpreters, what an import costs."""

import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest

import fastpagemap as fpm
import memory
import oracle
import runas
from compare import while_still
from linux import PAGE
from needs import Absent, need

PAGES = 3000


def run(program):
    """Run a program in an interpreter of its own; what it prints, without its last newline."""
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip("\n")


def test_one_page_map_and_eight_threads():
    """Every method at once, each answer that of a thread alone."""
    with memory.sparse(PAGES) as made, fpm.PageMap() as pm:
        span = made.start, made.end
        where = np.arange(made.start, made.end, 1000, dtype=np.uint64)
        (mine,) = (m for m in pm.mappings() if m.start == made.start)
        asks = [
            lambda: pm.present(*span).tobytes(),
            lambda: pm.exclusive(*span).tobytes(),
            lambda: pm.masks(*span).swapped.tobytes(),
            lambda: pm.read(*span).entries.tobytes(),
            lambda: pm.usage([mine], fields=("present", "swapped", "exclusive")).tobytes(),
            lambda: pm.residency(where, np.full(len(where), 900)).tobytes(),
            lambda: pm.states([mine]).tobytes(),
            lambda: fpm.capabilities(),
        ]

        def all_at_once():
            wanted = [ask() for ask in asks]
            wrong, ready = [], threading.Barrier(8)

            def hammer(first):
                ready.wait()
                for turn in range(40):
                    which = (first + turn) % len(asks)
                    if asks[which]() != wanted[which]:
                        wrong.append(which)

            threads = [threading.Thread(target=hammer, args=(first,)) for first in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return wrong

        # the kernel moves pages to other frames when it makes room for huge ones
        assert not while_still(all_at_once, lambda: oracle.words(*span))[1]


def test_a_fork_while_others_ask():
    """In the child the default is the child, whatever threads of the parent were about."""
    with memory.sparse(PAGES) as made, fpm.PageMap() as pm:
        done = threading.Event()

        def ask():
            while not done.is_set():
                pm.masks(made.start, made.end)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:

            def child():
                made.write()
                present = int(pm.present(made.start, made.end).sum())
                row = pm.residency([made.start], [PAGES * PAGE])
                return present, int(row["present"][0]), pm.pid

            for _ in range(5):
                present, resident, pid = runas.in_child(child)
                assert (present, resident) == (PAGES, PAGES * PAGE)
                assert pid != pm.pid
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert pm.present(made.start, made.end).sum() == -(-PAGES // 3)


def test_a_second_interpreter_is_refused():
    """As numpy refuses it: said at the import, not by a crash later."""
    need(sys.version_info < (3, 13), "sub-interpreters by _xxsubinterpreters", Absent)
    said = run(
        "import fastpagemap, _xxsubinterpreters as other\n"
        "try:\n    other.run_string(other.create(), 'import fastpagemap')\n"
        "except other.RunFailedError as error:\n    print(error)\n"
    )
    assert "ImportError" in said
    assert "once per process" in said or "one interpreter per process" in said


def test_an_import_needs_numpy_alone():
    """And none of what only the command line, or pictures, or files need."""
    said = run(
        "import sys, numpy; before = set(sys.modules); import fastpagemap\n"
        "print(*set(sys.modules) - before)"
    )
    unwanted = {"click", "rich", "textual", "matplotlib", "pyarrow", "json", "zipfile", "pathlib"}
    assert not {*unwanted, "numpy.ma", "fractions"} & set(said.split())


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("platform", "darwin", "needs Linux and its /proc/PID/pagemap: this is darwin"),
        ("maxsize", 2**31 - 1, "needs a 64-bit Python: this one has 32 bits"),
    ],
)
def test_where_it_cannot_work_the_import_says_so(name, value, said):
    """In one line, before numpy or any compiled module is imported."""
    printed = run(
        f"import sys; sys.{name} = {value!r}\n"
        "try:\n    import fastpagemap\nexcept ImportError as error:\n    print(error)\n"
        "print(*(n for n in sys.modules if n.startswith(('fastpagemap.', 'numpy'))))"
    )
    assert printed == f"fastpagemap {said}"


def test_what_is_imported_late_is_there():
    assert run("import fastpagemap; print(fastpagemap.Snapshot.__name__)") == "Snapshot"
    assert set(fpm.__all__) <= set(dir(fpm)) | {"Snapshot"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fpm.nothing  # noqa: B018


@pytest.mark.parametrize("reading", [True, False])
def test_with_out_nothing_is_allocated(reading):
    """A sampler with arrays of its own leaves nothing behind, and makes nothing large."""
    pages = 50_000
    with memory.untouched(pages) as made, fpm.PageMap() as pm:
        made.write(step=100)
        span = made.start, made.end
        mask, entries = np.zeros(pages, bool), np.zeros(pages, fpm.ENTRY_DTYPE)

        def ask():
            return pm.read(*span, out=entries) if reading else pm.present(*span, out=mask)

        ask()
        tracemalloc.start()
        for _ in range(20):
            ask()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < pages  # one byte a page would be a mask
