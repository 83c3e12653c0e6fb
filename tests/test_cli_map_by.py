"""fastpagemap map --by: pictures coloured by node, by count and by order (root)."""

import contextlib
import io
import os

import numpy as np
import pytest

import fastpagemap as fpm
import memory
import pictures
import runas
from commandline import run
from forks import forked

pytest.importorskip("click")
pytest.importorskip("matplotlib.image")

from fastpagemap.report import schemes

PAGE = fpm.PAGE_SIZE
ONCE, TWICE, SOME, MANY = 0x0072B2, 0xF6BD4A, 0xD55E00, 0x56B4E9


def colours(path):
    """How many cells of a picture of one mapping have each colour."""
    return dict(zip(*np.unique(pictures.colours(path), return_counts=True), strict=True))


def drawn(made, by, path):
    said = run("map", os.getpid(), "-o", path, "--by", by, "--mapping", f"{made.start:x}")
    assert (said.returncode, said.stdout, said.stderr) == (0, b"", b"")
    return colours(path)


@pytest.mark.root
@pytest.mark.parametrize(
    ("children", "colour"), [(0, ONCE), (1, TWICE), (2, SOME), (7, SOME), (8, MANY)]
)
def test_by_mapcount(children, colour, tmp_path):
    made = memory.Memory(256).write()
    with contextlib.ExitStack() as stack:
        for _ in range(children):
            stack.enter_context(forked())
        made.write(step=2)  # these are copied: mapped once
        found = drawn(made, "mapcount", tmp_path / "a.png")
    made.close()
    if colour == ONCE:
        assert found[ONCE] == 256
    else:
        assert (found[ONCE], found[colour]) == (128, 128)


@pytest.mark.root
def test_by_order(tmp_path):
    made = memory.huge(512)
    with fpm.PageMap() as pagemap:
        orders = set(pagemap.folios(made.start, made.end)["order"].tolist())
    found = drawn(made, "order", tmp_path / "a.png")
    made.close()
    assert len(orders) == 1
    known = {colour for colour in found if f"#{colour:06x}" in schemes._COLOURS}
    assert len(known) == 1
    assert found[known.pop()] == 512


@pytest.mark.root
def test_by_node(tmp_path):
    made = memory.Memory(256).write(step=4)
    found = drawn(made, "node", tmp_path / "a.png")
    with fpm.PageMap() as pagemap:
        nodes = pagemap.nodes(made.start, made.end)
    made.close()
    present = sum(found.get(int(colour[1:], 16), 0) for colour in schemes._COLOURS)
    assert present == np.count_nonzero(nodes >= 0) == 64


def test_equal_neighbours_join_within_a_mapping():
    starts = np.arange(0, 6, dtype=np.uint64) * np.uint64(PAGE)
    values = np.array([0, 0, 0, -1, 2, 2])
    edges = np.array([2 * PAGE], np.uint64)
    runs = schemes.joined(starts, starts + np.uint64(PAGE), values, edges)
    assert (runs["start"] // PAGE).tolist() == [0, 2, 4]
    assert (runs["end"] // PAGE).tolist() == [2, 3, 6]
    assert runs["state"].tolist() == [0, 0, 2]


def test_more_values_than_colours():
    """No two have the same colour: those with the fewest pages share one."""
    runs = np.zeros(300, fpm.RUN_DTYPE)
    runs["state"] = np.arange(300)
    runs["start"] = np.arange(300) * 100 * PAGE
    runs["end"] = runs["start"] + PAGE
    runs["end"][[0, 7, 255, 256, 298, 299]] += 2 * PAGE
    runs["end"][100] += PAGE
    painted, scheme = schemes.painted("node", runs, PAGE)
    labels = [state.label for state in scheme.states]
    names = [f"node {number}" for number in (0, 7, 100, 255, 256, 298, 299)]
    assert labels == [*names, "293 other nodes", "not present, or the zero page"]
    assert len({state.colour for state in scheme.states}) == len(labels)
    shown = scheme.display(painted["state"])
    assert [labels[index] for index in shown[[0, 255, 256, 299]]] == [
        *("node 0", "node 255", "node 256", "node 299")
    ]
    assert labels[shown[1]] == labels[shown[257]] == "293 other nodes"


@pytest.mark.root
@pytest.mark.parametrize("by", ["mapcount", "order"])
def test_without_privilege_it_fails_in_one_line(by):
    def failed():
        from fastpagemap.cli import main

        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            code = main(["map", str(os.getpid()), "-o", "/tmp/none.png", "--by", by])
        return code, said.getvalue()

    code, said = runas.as_nobody(failed)
    assert code == 1, said
    assert said.count("\n") == 1
    assert "CAP_SYS_ADMIN" in said


def test_only_a_process_can_be_asked(tmp_path):
    said = run("map", "x", "-o", tmp_path / "a.png", "--by", "node", "--raw")
    assert said.returncode == 2
    assert b"--by asks a process" in said.stderr
    path = tmp_path / "it.fpm"
    assert run("dump", os.getpid(), "-o", path).returncode == 0
    for command in (
        ["map", path, "-o", tmp_path / "a.png", "--by", "node"],
        ["report", path, path],
    ):
        said = run(*command)
        assert said.returncode == 2
        assert b"is a file: only a process can be asked" in said.stderr
