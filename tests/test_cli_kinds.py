"""What a mapping is for: `report --group kind`, and `kind` in JSON."""

import json
import os

import pytest

import fastpagemap as fpm
from commandline import run
from fastpagemap.model.kinds import kinds
from victim import Victim

pytest.importorskip("click")

PAGE = fpm.PAGE_SIZE


def test_kinds_without_a_process_to_ask():
    lines = {
        "heap": ("rw-p", 0, 0, "[heap]"),
        "stack": ("rw-p", 0, 0, "[stack]"),
        "anonymous": ("rw-p", 0, 0, "[anon:name]"),
        "shared memory": ("rw-s", os.makedev(0, 1), 7, "/memfd:x (deleted)"),
        "executable": ("r-xp", 5, 7, "/bin/sh"),
        "file": ("r--p", 5, 8, "/usr/lib/locale"),
        "device": ("rw-s", 5, 9, "/dev/dri/card0"),
        "kernel": ("r-xp", 0, 0, "[vdso]"),
    }
    mappings = [
        fpm.Mapping(PAGE * i, PAGE * i + PAGE, permissions, 0, device, inode, path)
        for i, (permissions, device, inode, path) in enumerate(lines.values())
    ]
    assert kinds(mappings) == list(lines) == sorted(lines, key=list(lines).index)
    data = mappings[4]._replace(permissions="rw-p")  # the data of a program is the program's
    assert kinds([data, mappings[4]]) == ["executable", "executable"]


def test_kinds_of_other_kernels():
    """Their own tmpfs had other numbers, and the stacks of threads had names."""
    shm, disk = "shared memory", (8, 1)
    for device, path, kind in (
        ((0, 4), "/SYSV00000000 (deleted)", shm),
        ((0, 4), "/SYSVdeadbeef (deleted)", shm),
        ((0, 5), "/dev/zero (deleted)", shm),
        ((0, 9), "/memfd:wayland-shm (deleted)", shm),
        ((0, 5), "/memfd:two\nlines (deleted)", shm),
        ((0, 4), "/drm mm object (deleted)", shm),
        ((0, 1), "/i915 (deleted)", shm),
        (disk, "/memfd:of-a-disk (deleted)", "file"),
        ((0, 30), "/memfd", "file"),
        ((0, 30), "/SYSVtem (deleted)", "file"),
        ((0, 6), "/dev/zero", "device"),
        ((0, 0), "[stack:1234]", "stack"),
    ):
        inode = 0 if path.startswith("[") else 7
        mapping = fpm.Mapping(PAGE, 2 * PAGE, "rw-s", 0, os.makedev(*device), inode, path)
        assert kinds([mapping]) == [kind], path


@pytest.mark.root
@pytest.mark.parametrize("maker", ["tmpfs", "tmpfs_private"])
def test_a_mounted_tmpfs_is_shared_memory(maker):
    with Victim() as victim:
        span = victim.make(maker, 3000)
        rows = json.loads(run("report", victim.pid, "--json").stdout)["rows"]
        groups = json.loads(run("report", victim.pid, "--group", "kind", "--json").stdout)["rows"]
    row = next(row for row in rows if row["start"] == span.start)
    assert not row["path"].startswith("/dev/")  # no name tells it
    assert row["kind"] == "shared memory"
    sizes = {group["kind"]: group["size"] for group in groups}
    assert sizes["shared memory"] >= 3000 * PAGE


def test_a_device_node_on_a_tmpfs_is_a_device():
    node = fpm.Mapping(PAGE, 2 * PAGE, "rw-s", 0, 5, 9, "/dev/dri/card0")
    file = node._replace(path="/run/file")
    program = node._replace(permissions="r-xp", path="/run/program")
    found = kinds([node, file, program], lambda mapping: mapping.device == 5)
    assert found == ["device", "shared memory", "shared memory"]


def test_where_nobody_can_tell_the_path_does():
    file = fpm.Mapping(PAGE, 2 * PAGE, "r--p", 0, 5, 9, "/overlay/file")
    assert kinds([file], lambda mapping: None) == ["file"]
