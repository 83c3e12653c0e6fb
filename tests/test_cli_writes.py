"""`fastpagemap writes`: what is written meanwhile, where the kernel can tell."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastpagemap as fpm
import linux
from commandline import COMMAND, run
from fastpagemap.cli.program import own_writes
from linux import PAGE
from needs import Absent, need

pytest.importorskip("click")


def test_writes_without_soft_dirty_is_one_line(victim):
    if fpm.capabilities().soft_dirty:
        said = run("writes", victim.pid, stdin=subprocess.DEVNULL)
        assert said.returncode == 2
        assert b"--yes" in said.stderr
    else:
        said = run("writes", victim.pid, "--yes")
        assert said.returncode == 1
        assert b"CONFIG_MEM_SOFT_DIRTY" in said.stderr
    assert said.stdout == b""
    assert said.stderr.count(b"\n") == 1


def test_how_much_is_tracked_is_in_the_help():
    """Whoever writes to many small mappings is to know what is left out."""
    most, each = own_writes.MAX_STRETCHES, own_writes._DESCRIPTORS_EACH
    said = " ".join(run("writes", "--help").stdout.decode().split())
    wanted = f"Only the {most} largest stretches of memory are tracked, or fewer if 'ulimit -n'"
    assert f"{wanted} is below {most * each}: one for each {each} files that it allows" in said


def test_writes_tells_what_is_written(victim):
    need(fpm.capabilities().soft_dirty, "soft-dirty bits", Absent)
    span = victim.make("touched", 400)
    command = [*COMMAND, "writes", str(victim.pid), "--yes", "--json", "--interval", "0.5"]
    with subprocess.Popen(
        [*command, "--count", "4"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert b"clears the soft-dirty bits" in process.stderr.readline()
        while process.poll() is None:  # in each of its intervals, however long they take
            span.do("write", 0, 100)
        found = [json.loads(line) for line in process.stdout]
    assert process.returncode == 0
    assert len(found) == 4
    assert all(one["paths"].get("", 0) >= 100 * PAGE for one in found)
    assert all(one["written"] == sum(one["paths"].values()) for one in found)


def test_what_counts_as_written():
    """Soft-dirty pages that are there, by path; not those of a new mapping, never touched."""
    from fastpagemap.cli.commands.writes import _written

    mappings = [
        fpm.Mapping(PAGE * 10 * at, PAGE * 10 * (at + 1), "rw-p", 0, 0, 0, path)
        for at, path in enumerate(["/a", "/b", "/a"], 1)
    ]
    state = fpm.State
    runs = [
        (10, 12, state.PRESENT | state.SOFT_DIRTY),
        (12, 13, state.PRESENT),
        (14, 20, state.SOFT_DIRTY),
        (20, 25, state.SWAPPED | state.SOFT_DIRTY),
        (30, 31, state.PRESENT | state.SOFT_DIRTY | state.SHARED),
    ]
    words = [(low * PAGE, high * PAGE, int(word)) for low, high, word in runs]
    found = _written(mappings, np.array(words, fpm.RUN_DTYPE))
    assert list(found.items()) == [("/b", 5 * PAGE), ("/a", 3 * PAGE)]


PROGRAM = """
import mmap, os, sys, time
import fastpagemap as fpm
memory = mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE)
shared = mmap.mmap(-1, 64 << 20)
print(sys.argv[1:], flush=True)
"""
USERFAULTFD = {"x86_64": 323, "aarch64": 282}
OF_THE_INTERPRETER = 6 << 20  # bytes that Python itself writes in a moment, at most


@pytest.fixture
def _tracked():
    need(fpm.capabilities().userfaultfd_wp_async, "userfaultfd WP_ASYNC (Linux 6.7)", Absent)


def lines_of(said):
    """The lines of JSON between what a program prints."""
    return [json.loads(line) for line in said.stdout.splitlines() if line.startswith(b"{")]


@pytest.mark.usefixtures("_tracked")
def test_what_a_program_writes(write_program):
    """All in all what it wrote, by what it wrote to; its arguments and exit code are its own."""
    writing = "for at in range(10): memory[at << 20 : at + 1 << 20] = bytes([at]) * (1 << 20)\n"
    writing += "shared[: 5 << 20] = bytes(5 << 20)\nsys.exit(3)\n"
    said = run("writes", "--json", write_program(PROGRAM + writing), "--json", "--count", 1)
    assert (said.returncode, said.stderr) == (3, b"")
    assert said.stdout.startswith(b"['--json', '--count', '1']\n")
    found = lines_of(said)
    private, shared = (
        sum(one["paths"].get(path, 0) for one in found) for path in ("", "/dev/zero (deleted)")
    )
    assert 10 << 20 <= private <= (10 << 20) + len(found) * OF_THE_INTERPRETER
    assert shared == 5 << 20
    assert all(one["written"] == sum(one["paths"].values()) for one in found)


@pytest.mark.usefixtures("_tracked")
def test_what_is_there_at_the_end(write_program):
    """What a program maps in its last moments, and still has as it ends, it has written."""
    text = "import mmap\nparts = [mmap.mmap(-1, 1 << 20) for _ in range(9)]\n"
    said = run("writes", "--json", write_program(text + "for each in parts: each.write(b'x')\n"))
    assert (said.returncode, said.stderr) == (0, b"")
    told = sum(one["paths"].get("/dev/zero (deleted)", 0) for one in lines_of(said))
    assert told == 9 * PAGE


THREAD = """
import mmap, sys, threading, time
def later():
    time.sleep(0.5)
    globals()["memory"] = memory = mmap.mmap(-1, 9 << 20)
    memory.write(bytes(9 << 20))
threading.Thread(target=later).start()
"""


@pytest.mark.usefixtures("_tracked")
@pytest.mark.parametrize("end", ["", "sys.exit(4)"])
def test_threads_that_go_on(write_program, end):
    """A program has ended once its threads have."""
    said = run("writes", "--json", write_program(THREAD + end))
    assert (said.returncode, said.stderr) == (4 if end else 0, b"")
    told = sum(one["paths"].get("/dev/zero (deleted)", 0) for one in lines_of(said))
    assert told == 9 << 20


@pytest.mark.usefixtures("_tracked")
def test_what_is_written_over_and_over(write_program):
    """Each interval has it once, until so many lines were told; then the program is ended."""
    writing = "while True: memory[: 8 << 20] = bytes(8 << 20)\n"
    program = write_program(PROGRAM + writing)
    said = run("writes", "--interval", 0.4, "--count", 4, "--json", program, timeout=60)
    assert (said.returncode, said.stderr) == (0, b"")
    found = lines_of(said)
    assert len(found) == 4
    for one in found[1:]:  # in the first it may have been about to begin
        # the bytes that are copied are memory, too
        assert 8 << 20 <= one["paths"][""] <= (16 << 20) + OF_THE_INTERPRETER


@pytest.mark.usefixtures("_tracked")
def test_what_is_written_once(write_program):
    """It is told once; neither what is read nor what is tracked counts as written."""
    # after the first line: what was written before is known by being there
    writing = "time.sleep(1)\nshared[: 3 << 20] = bytes(3 << 20)\ntime.sleep(1)\n"
    reading = "print(memory[:].count(1), shared[:].count(1))\ntime.sleep(1)\n"
    said = run("writes", "--interval", 0.3, "--json", write_program(PROGRAM + writing + reading))
    assert (said.returncode, said.stderr) == (0, b"")
    found = lines_of(said)
    assert len(found) > 3
    assert sum(one["paths"].get("/dev/zero (deleted)", 0) for one in found) == 3 << 20


@pytest.mark.usefixtures("_tracked")
def test_a_program_that_forks_and_fails(write_program):
    """A child that goes on holds nobody up; what was raised is told without our own frames."""
    # of the descriptors it keeps the one alone by which the program tells its writes
    failing = "child = os.fork()\n"
    failing += "if not child: os.close(1); os.close(2); time.sleep(1000); os._exit(0)\n"
    said = run("writes", write_program(PROGRAM + failing + "print('child', child)\n1 / 0\n"))
    child = int(re.search(rb"^child (\d+)$", said.stdout, re.MULTILINE)[1])
    assert linux.is_running(child)
    os.kill(child, signal.SIGKILL)
    assert said.returncode == 1
    assert b"ZeroDivisionError" in said.stderr
    assert b"start.py" not in said.stderr
    assert said.stdout.startswith(b"time      written  per second  where\n")


FEW_FILES = """
import mmap, resource, time
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
def limit(files): resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
"""


@pytest.mark.usefixtures("_tracked")
def test_a_program_keeps_half_of_the_descriptors_that_it_may_have(write_program):
    """However many mappings it has, each of which takes some to be tracked."""
    program = f"""
limit(256)
rights = mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE
parts = [mmap.mmap(-1, 9 * {PAGE}, mmap.MAP_PRIVATE, prot=rights[at % 2]) for at in range(240)]
time.sleep(1)
files = [open('/dev/null') for _ in range(80)]
"""
    said = run("writes", "--interval", 0.1, "--json", write_program(FEW_FILES + program))
    assert (said.returncode, said.stderr) == (0, b"")
    assert lines_of(said)


@pytest.mark.usefixtures("_tracked")
def test_what_cannot_be_looked_at_now_is_told_later(write_program):
    program = """
memory = mmap.mmap(-1, 9 << 20)
limit(3)
time.sleep(1)
memory.write(bytes(9 << 20))
limit(hard)
"""
    said = run("writes", "--interval", 0.05, "--json", write_program(FEW_FILES + program))
    assert (said.returncode, said.stderr) == (0, b"")
    told = sum(one["paths"].get("/dev/zero (deleted)", 0) for one in lines_of(said))
    assert told == 9 << 20


@pytest.mark.usefixtures("_tracked")
def test_what_cannot_be_looked_at_any_more_is_one_line(write_program):
    said = run("writes", "--json", write_program(FEW_FILES + "limit(3)"))
    assert (said.returncode, said.stderr.count(b"\n")) == (1, 1)
    assert b"raise RLIMIT_NOFILE (ulimit -n), which is 3" in said.stderr


@pytest.mark.usefixtures("_tracked")
def test_a_program_that_closes_all_descriptors_finds_nothing_in_its_files(write_program, tmp_path):
    """It may get the number of the pipe by which it tells its writes."""
    program = """
import os, sys
os.closerange(3, 1000)
for at in range(30): os.open(f"{sys.argv[1]}/{at}", os.O_CREAT | os.O_WRONLY)
"""
    said = run("writes", "--interval", 60, write_program(program), tmp_path)
    assert (said.returncode, said.stderr) == (0, b"")
    assert [(tmp_path / str(at)).read_bytes() for at in range(30)] == [b""] * 30


def test_arguments_are_a_programs():
    said = run("writes", 1, "more")
    assert (said.returncode, said.stdout) == (2, b"")
    assert b"only a program NAME.py has arguments" in said.stderr
    assert said.stderr.count(b"\n") == 1


@pytest.mark.root
def test_a_program_where_nothing_tells(write_program):
    """Where userfaultfd is refused it is one line, and the program goes no further."""
    program = write_program("import time; time.sleep(60); print('not run')")
    code = f"""import os, sys
import seccomp
seccomp.refuse({USERFAULTFD.get(os.uname().machine)}, 1)
os.execv(sys.executable, {[*COMMAND, "writes", str(program)]!r})
"""
    need(os.uname().machine in USERFAULTFD, "x86-64 or arm64", Absent)
    tests = str(Path(__file__).parent)
    environment = os.environ | {"PYTHONPATH": tests}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert said.returncode == 1
    assert said.stdout in (b"", b"time      written  per second  where\n")
    assert b"no write-tracking here" in said.stderr
    assert said.stderr.count(b"\n") == 1


def test_its_former_name_is_understood():
    said = run("dirty", "--help")
    assert said.returncode == 0
    assert b"Show how much memory process TARGET writes" in said.stdout
    assert b"dirty" not in run("--help").stdout
