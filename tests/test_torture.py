"""The programs of tests/torture: does a find end them, can it be had again, are lies seen?"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import memory
from linux import PAGE

HERE = Path(__file__).parent / "torture"
#: A program of which some rounds fail, and one of its rounds hangs.
PROGRAM = """
import sys, time
import _torture
_torture.LIMIT = 1

def one_round(chance, counts):
    counts["looks"] += 1
    if chance.number == 3:
        time.sleep(60)
    assert chance.number < 5 or chance.random() < 0.5, "a find"

sys.exit(_torture.run(one_round))
"""


def run(path, *arguments):
    """A program's exit status and output."""
    done = subprocess.run(
        [sys.executable, path, *arguments],
        env=os.environ | {"PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def torture(monkeypatch):
    """The modules that the programs share can be imported."""
    monkeypatch.syspath_prepend(HERE)


def test_a_find_can_be_had_again(write_program):
    program = write_program(PROGRAM)
    status, said = run(program, "--rounds", "20", "--seed", "7")
    assert status == 1
    rounds = [int(number) for number in re.findall(r"FIND program --seed 7 --round (\d+)", said)]
    assert rounds[0] == 3  # it hung
    assert len(rounds) > 1
    for number in rounds[1:3]:
        status, said = run(program, "--seed", "7", "--round", str(number))
        assert status == 1
        assert "AssertionError: a find" in said
    assert run(program, "--seed", "7", "--round", "1")[0] == 0


def test_every_program_is_found():
    """And those that share the time are programs: a new one needs no entry anywhere."""
    _, said = run(HERE, "--seconds", "0", "--help")
    for path in HERE.glob("[!_]*.py"):
        assert path.stem in said


def test_a_seed_makes_as_many_rounds_on_every_machine():
    for _ in range(2):
        status, said = run(HERE, "--seconds", "0.5", "--seed", "3", "fuzz_snapshots")
        assert status == 0, said
        assert " 21 rounds" in said
    _, said = run(HERE, "--seconds", "0", "fuzz_snapshots")
    assert " 1 rounds" in said


@pytest.mark.usefixtures("torture")
@pytest.mark.parametrize("name", ["present", "swapped", "unknown", "shared", "exclusive"])
def test_the_judge_sees_a_lie(name):
    import random

    import _judge

    chance = random.Random(1)
    with memory.touched(20) as made:
        start, end = made.start - PAGE, made.end + PAGE
        asked = _judge.allocations(chance, start, end)
        said = _judge.answers(None, start, end, asked, [(made.start, made.end)])
        truth = _judge.Truth.of(start, end, "self")
        rights = _judge.Rights(True, True, True)
        _judge.residency_is_true(said, asked, start)
        _judge.true(said, truth, start, rights, set())
        said.masks[name][7] ^= True
        with pytest.raises(AssertionError):
            _judge.true(said, truth, start, rights, set())


@pytest.mark.usefixtures("torture")
def test_what_is_left_out_of_an_answer_is_no_lie():
    """Where a call fails, pages may be unknown; no page may be something else."""
    import _calls
    import numpy as np

    from fastpagemap import State

    swapped, unknown = np.uint64(State.SWAPPED), np.uint64(State.UNKNOWN)
    right = {"states": [np.array([swapped, 0, State.PRESENT], np.uint64)]}
    for told, honest in (
        ([unknown, 0, State.PRESENT], True),
        ([0, 0, State.PRESENT], False),
        ([swapped, swapped, State.PRESENT], False),
        ([swapped, 0, 0], False),
    ):
        answer = {"states": [np.array(told, np.uint64)]}
        assert _calls.honest(answer, right, for_good=True) is honest, told


@pytest.mark.parametrize("name", ["fuzz_texts", "differential"])
def test_a_program_runs(name):
    """For a moment, to see that it can; their time is in `make torture`."""
    status, said = run(HERE / f"{name}.py", "--seed", "1", "--round", "0")
    assert status == 0, said
