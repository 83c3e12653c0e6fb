"""`fastpagemap forks` of a program that it runs: what children share of each object."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commandline import COMMAND, run
from linux import PAGE

pytest.importorskip("click")

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "workers.py"
SETTINGS = os.environ | {"NUMPY_MADVISE_HUGEPAGE": "0"}


def looks(said):
    """What each line of JSON says, between what the program prints."""
    return [json.loads(line) for line in said.stdout.splitlines() if line.startswith(b"{")]


# In place of a time: each step waits until it is told by a file, which the last argument names.
WAIT = """
def wait(steps=iter(range(9))):
    step = next(steps)
    while not os.path.exists(f"{sys.argv[-1]}{step}"):
        time.sleep(0.01)
"""


def copied(one):
    """For each kind of object, whether most of it is a worker's own; None without two workers."""
    if sum(each["role"] == "worker" for each in one["processes"]) < 2:
        return None
    rows = {row["name"]: row for row in one["objects"]}
    return [
        rows[name]["in_one"] > rows[name]["by_others"] for name in ("array", "strings", "lists")
    ]


@pytest.mark.parametrize("freeze", [False, True])
def test_by_object(freeze, write_program, tmp_path):
    """What is read stays as it was; objects looked at do not, nor those the collector looks at."""
    text = EXAMPLE.read_text().replace("time.sleep(SECONDS)", "wait()")
    text = text.replace("import gc\n", "import gc, os\n").replace('name == "first"', "True")
    program = write_program(text.replace("\n\ndef work", WAIT + "\n\ndef work"))
    gate = str(tmp_path / "go")
    command = [*COMMAND, "forks", "--json", "--interval", "0.1", program]
    command += ["--freeze"] * freeze + [gate]
    states = [[False] * 3, [False] * 3, [False, True, False], [False, True, not freeze]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=SETTINGS, text=True) as process:
        for step, state in enumerate(states):
            told, found = 0 if step else 2, None
            while told < 2 or found != state:
                line = process.stdout.readline()
                assert line, (step, found)
                told += line.startswith("each worker did")
                if line.startswith("{"):
                    last = json.loads(line)
                    found = copied(last)
            if not step:
                sizes = {row["name"]: row["by_others"] for row in last["objects"]}
                assert abs(sizes["array"] - 4_000_000 * 8) < 2 * PAGE
            open(f"{gate}{step}", "w").close()
        process.stdout.read()
    assert process.returncode == 0


PROGRAM = """
import os, signal, sys, time
class Thing:
    def __init__(self): self.text = "x" * (3 << 20)
table = {number: bytes(1000) for number in range(3000)}
view = None
def main():
    local = bytearray(5 << 20)
    local[:] = bytes([1]) * len(local)
    things = [Thing() for _ in range(2)]
    pid = os.fork()
    time.sleep(100 if not pid else float(sys.argv[1]))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
main()
sys.exit(5)
"""


def test_places_of_objects(write_program):
    """Containers, attributes, locals: all bytes of each are found at the addresses noted."""
    said = run("forks", "--json", "--interval", 100, write_program(PROGRAM), 3)
    assert said.returncode == 5
    (found,) = looks(said)
    sizes = {row["name"]: row["by_others"] + row["exclusive"] for row in found["objects"]}
    assert abs(sizes["main.local"] - (5 << 20)) < 2 * PAGE
    assert abs(sizes["main.things"] - (6 << 20)) < 4 * PAGE
    table = sys.getsizeof(dict.fromkeys(range(3000))) + 3000 * (1033 + 28)
    assert 0.97 * table < sizes["table"] < 1.03 * table
    assert "view" not in sizes


ELSEWHERE = """
import os, time
from array import array
from collections import Counter, deque
class Liar:
    def __sizeof__(self): return 8 << 20
class Buffer(bytearray): pass
numbers = array("d", bytes(3 << 20))
buffer = Buffer(b"1") * (3 << 20)
buffer = Buffer(buffer)
counter = Counter(range(100_000))
liar = Liar()
queue = deque([None]) * 1_000_000
after = [bytes(1000) for _ in range(20_000)]  # what would be taken for the liar's
if not os.fork():
    time.sleep(1000)
time.sleep(1000)
"""


def test_memory_that_lies_elsewhere(write_program):
    """Only what belongs to an object counts, wherever it lies and however large it says it is."""
    said = run("forks", "--json", "--count", 1, write_program(ELSEWHERE), timeout=60)
    (found,) = looks(said)
    sizes = {row["name"]: row["by_others"] + row["exclusive"] for row in found["objects"]}
    assert abs(sizes["numbers"] - (3 << 20)) < 2 * PAGE
    assert abs(sizes["buffer"] - (3 << 20)) < 2 * PAGE
    counter = sys.getsizeof(dict.fromkeys(range(100_000)))
    assert counter < sizes["counter"] < counter + 100_000 * 32 + 4 * PAGE
    assert sizes["liar"] < PAGE
    assert sizes["queue"] < PAGE


LAZY = """
import os, sys, time
class Lazy:
    @property
    def __class__(self): print("asked"); raise RuntimeError
    def __getattr__(self, name): print("asked for", name); raise RuntimeError
lazy = Lazy()
known = bytearray(b"1") * (3 << 20)
before = "numpy" in sys.modules
if not os.fork():
    print(before, os.getpid(), flush=True)
    time.sleep(1000)
time.sleep(1000)
"""


def test_the_program_is_left_alone(write_program):
    """No function of the program is called, nor is numpy there because somebody looks."""
    said = run("forks", "--json", "--count", 1, write_program(LAZY), timeout=60)
    assert (said.returncode, said.stderr) == (0, b"")
    (found,) = looks(said)
    sizes = {row["name"]: row["by_others"] + row["exclusive"] for row in found["objects"]}
    assert abs(sizes["known"] - (3 << 20)) < 2 * PAGE
    assert "lazy" in sizes
    numpy, pid = said.stdout.splitlines()[0].split()
    assert numpy == b"False"
    assert_ended(int(pid))


def assert_ended(pid):
    """After the last of so many looks nobody is left behind: neither program nor children."""
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}/exe"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_program_without_a_child(write_program):
    said = run("forks", write_program("print('alone')"), "argument")
    assert (said.returncode, said.stdout) == (1, b"alone\n")
    assert (
        said.stderr == b"fastpagemap: the program ended before a child of it could be looked at\n"
    )
