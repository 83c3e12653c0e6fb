"""fastpagemap files on btrfs, where maps shows files of all subvolumes alike (root)."""

import json
import mmap
import os

import pytest

import disks
import fastpagemap as fpm
import runas
from commandline import run
from fastpagemap.engine.file_caches import cache_of, mapped_by
from fastpagemap.process.process import Process
from memory import Memory
from needs import Absent, need

pytest.importorskip("click")
pytestmark = pytest.mark.root

PAGE = fpm.PAGE_SIZE


def files_in(directory):
    """A file in each of two subvolumes, of one inode: their paths."""
    paths = [f"{directory}/{name}/file" for name in "ab"]
    for path in paths:
        with open(path, "wb") as file:
            file.write(b"x" * 4 * PAGE)
    assert len({os.stat(path).st_ino for path in paths}) == 1
    return paths


def mapped(path):
    """A file mapped, with no descriptor of it."""
    memory = Memory(4, mmap.MAP_SHARED, fd=os.open(path, os.O_RDWR))
    memory.read()
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, memory.fd)
    os.close(null)
    return memory


def test_each_is_told_who_maps_it():
    with disks.subvolumes("a", "b") as directory:
        paths = files_in(directory)
        with mapped(paths[1]):
            said = run("files", *paths, "--json", "--timeout", "2")
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)["files"]
    assert [file["path"] for file in found] == paths
    assert found[0]["processes"] == []
    (mine,) = found[1]["processes"]
    assert (mine["pid"], mine["present"]) == (os.getpid(), 4 * PAGE)


def test_without_privilege_a_path_or_a_descriptor_tells():
    need(fpm.capabilities().cachestat, "cachestat", Absent)

    def look():
        paths = files_in(directory)
        first, second = (cache_of(path).file for path in paths)
        with mapped(paths[1]):
            found = [mapped_by(Process(), {first, second})]
            fd = os.open(paths[1], os.O_RDWR)
            os.unlink(paths[1])
            found.append(mapped_by(Process(), {first, second}))
            os.close(fd)
            with pytest.raises(fpm.UnsupportedError, match="subvolume"):
                mapped_by(Process(), {first, second})
        return second, found

    with disks.subvolumes("a", "b") as directory:
        for name in "ab":
            os.chmod(f"{directory}/{name}", 0o777)
        file, answers = runas.as_nobody(look)
    assert answers == [{file: (4 * PAGE, 4 * PAGE)}] * 2
