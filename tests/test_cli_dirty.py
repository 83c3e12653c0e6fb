"""`fastpagemap dirty`: what is written meanwhile, where the kernel can tell."""

import json
import subprocess

import numpy as np
import pytest

import fastpagemap as fpm
from commandline import COMMAND, run
from linux import PAGE
from needs import Absent, need

pytest.importorskip("click")


def test_dirty_without_soft_dirty_is_one_line(victim):
    if fpm.capabilities().soft_dirty:
        said = run("dirty", victim.pid, stdin=subprocess.DEVNULL)
        assert said.returncode == 2
        assert b"--yes" in said.stderr
    else:
        said = run("dirty", victim.pid, "--yes")
        assert said.returncode == 1
        assert b"CONFIG_MEM_SOFT_DIRTY" in said.stderr
    assert said.stdout == b""
    assert said.stderr.count(b"\n") == 1


def test_dirty_tells_what_is_written(victim):
    need(fpm.capabilities().soft_dirty, "soft-dirty bits", Absent)
    span = victim.make("touched", 400)
    command = [*COMMAND, "dirty", str(victim.pid), "--yes", "--json", "--interval", "0.5"]
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
    from fastpagemap.cli.commands.dirty import _written

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
