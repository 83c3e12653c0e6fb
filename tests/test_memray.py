"""`fastpagemap run`: what it says of programs that know what they have touched."""

import contextlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from linux import PAGE
from memray_programs import ALLOCATORS, LIBRARY, OBJECTS, PAGED_OUT, PREAMBLE, SPARE
from memray_run import ENVIRONMENT, MIB
from needs import need

pytest.importorskip("click")
pytest.importorskip("memray")

from fastpagemap.cli import program as programs
from fastpagemap.cli.allocated import look
from fastpagemap.engine.memray_capture import alive, call_site, open_capture, read

LARGE, SMALL = {"python_allocators": False}, {"python_allocators": True}


@contextlib.contextmanager
def standing_still(tmp_path, options, *command):
    """Run a program until it stands still at its end; gives its pid and its capture file."""
    capture = str(tmp_path / "capture")
    told = {"parent": os.getpid(), "capture": capture, "stop_at_exit": True, **options}
    with open(tmp_path / "told", "wb") as out:
        process = subprocess.Popen(
            [sys.executable, programs.START, json.dumps(told), *map(str, command)],
            stdout=out,
            env=ENVIRONMENT,
        )
    try:
        event = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert event.si_code == os.CLD_STOPPED
        yield process.pid, capture
    finally:
        process.kill()
        process.wait()


def expected(told):
    """(allocated, resident, swapped) of each function as its program told, page by page."""
    answer = {}
    for line in told.splitlines():
        where, start, size, touched, paged = json.loads(line)
        out = {page for a, b in paged for page in range(a // PAGE, -(-b // PAGE))}
        present = {page for a, b in touched for page in range(a // PAGE, -(-b // PAGE))} - out
        row = answer.setdefault(where, [0, 0, 0])
        row[0] += size
        for column, pages in ((1, present), (2, out)):
            for page in pages:
                row[column] += min(start + size, (page + 1) * PAGE) - max(start, page * PAGE)
    return answer


def compare(tmp_path, options, program, *arguments):
    """See that the example says of each function what the function did; returns its answer."""
    with standing_still(tmp_path, options, program, *arguments) as (pid, capture):
        report = look(pid, capture, starter=programs.START).by_site()
    answer = {}
    for site, *sizes in zip(report.sites, *report.sizes.values(), strict=True):
        if site.file in ("", str(program)):
            row = answer.setdefault(site.function, [0, 0, 0, 0])
            row[:] = [sum(pair) for pair in zip(row, map(int, sizes), strict=True)]
    for where, wanted in expected((tmp_path / "told").read_text()).items():
        # what else a function allocates is a few bytes; a page too many would be more
        excess = [a - b for a, b in zip(answer.get(where, (0, 0, 0)), wanted, strict=False)]
        assert all(0 <= each < PAGE // 2 for each in excess), (where, wanted, excess)
    return answer


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A shared library whose calls memray sees."""
    need(shutil.which("cc"), "a C compiler (cc)")
    path = tmp_path_factory.mktemp("library") / "library.so"
    command = ["cc", "-shared", "-fPIC", "-fno-builtin", "-pthread", "-o", path, "-xc", "-"]
    subprocess.run(command, input=LIBRARY, text=True, check=True)
    return path


def test_every_allocator(tmp_path, write_program, library):
    answer = compare(tmp_path, LARGE, write_program(PREAMBLE + SPARE + ALLOCATORS), library)
    assert {where for where, row in answer.items() if row[3]} == {"shared"}
    assert answer["shared"][3] == 3 * MIB


@pytest.mark.root
@pytest.mark.usefixtures("any_swap")
def test_paged_out(tmp_path, write_program):
    answer = compare(tmp_path, LARGE, write_program(PREAMBLE + SPARE + PAGED_OUT))
    assert answer["private"][2] == 4 * MIB
    assert answer["shared"][2:] == [2 * MIB, 2 * MIB]


def test_each_object_of_python(tmp_path, write_program):
    compare(tmp_path, SMALL, write_program(PREAMBLE + OBJECTS), 5000)


def test_arenas_without(tmp_path, write_program):
    """Without --python-allocators there are arenas, at the line that needed them."""
    program = write_program(PREAMBLE + OBJECTS)
    still = standing_still(tmp_path, LARGE, program, 20_000)
    with still as (_, capture), open_capture(capture) as reader:
        events, stacks = read(reader, programs.START)
    live = alive(events)
    at = [call_site(stacks[each]).function == "objects" for each in live["stack"].tolist()]
    arenas = np.isin(live["size"][at], [256 << 10, 1 << 20])  # before and since Python 3.10
    assert 1 <= arenas.sum() <= 20_000 // 1000
    assert live["size"][at][arenas].sum() >= MIB
