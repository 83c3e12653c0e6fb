"""`fastpagemap forks` of a program that it runs: what children share of each object."""

import json
import os
import sys
from pathlib import Path

import pytest

from commandline import run
from linux import PAGE

pytest.importorskip("click")

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "workers.py"
SETTINGS = os.environ | {"NUMPY_MADVISE_HUGEPAGE": "0"}


def looks(said):
    """What each line of JSON says, between what the program prints."""
    return [json.loads(line) for line in said.stdout.splitlines() if line.startswith(b"{")]


@pytest.mark.parametrize("freeze", [False, True])
def test_by_object(freeze):
    """What is read stays as it was; objects looked at do not, nor those the collector looks at."""
    options = ["--json", "--interval", 0.3]
    said = run("forks", *options, EXAMPLE, *["--freeze"] * freeze, env=SETTINGS)
    assert (said.returncode, said.stderr) == (0, b"")
    found = looks(said)
    assert {"array", "strings", "lists"} <= {row["name"] for row in found[0]["objects"]}

    def copied(one):
        """For each kind of object, whether most of it is the workers' own."""
        rows = {row["name"]: row for row in one["objects"]}
        sizes = [rows[name] for name in ("array", "strings", "lists")]
        return [row["exclusive"] > row["by_others"] for row in sizes]

    def workers(one):
        return sum(each["role"] == "worker" for each in one["processes"])

    whole = [one for one in found if workers(one) == 2]
    assert copied(whole[0]) == [False, False, False]
    assert copied(whole[-1]) == [False, True, not freeze]
    row = next(row for row in whole[0]["objects"] if row["name"] == "array")
    assert abs(row["by_others"] - 4_000_000 * 8) < 2 * PAGE


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
    said = run("forks", "--json", "--count", 1, write_program(PROGRAM), 3)
    assert said.returncode == 5
    (found,) = looks(said)
    sizes = {row["name"]: row["by_others"] + row["exclusive"] for row in found["objects"]}
    assert abs(sizes["main.local"] - (5 << 20)) < 2 * PAGE
    assert abs(sizes["main.things"] - (6 << 20)) < 4 * PAGE
    table = sys.getsizeof(dict.fromkeys(range(3000))) + 3000 * (1033 + 28)
    assert 0.97 * table < sizes["table"] < 1.03 * table
    assert "view" not in sizes


def test_program_without_a_child(write_program):
    said = run("forks", write_program("print('alone')"), "argument")
    assert (said.returncode, said.stdout) == (1, b"alone\n")
    assert (
        said.stderr == b"fastpagemap: the program ended before a child of it could be looked at\n"
    )
