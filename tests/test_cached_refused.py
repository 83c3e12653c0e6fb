"""A sandbox refuses a call: what is cached is told another way, or it is said that it is not."""

import contextlib
import errno
import gc
import os
import tempfile

import pytest

import backed
import calls
import cgroups
import fastpagemap as fpm
import linux
import runas
import seccomp
from fastpagemap.engine.file_caches import cache_of
from features import has_cachestat
from linux import PAGE
from needs import Absent, need
from sharer import Sharer
from victim import Victim

ERRORS = [errno.EPERM, errno.EACCES, errno.ENOSYS]
PAGES = 8


@pytest.fixture
def written():
    """A file on a disk, all of it cached; its path."""
    with tempfile.NamedTemporaryFile(dir=backed.disk_directory()) as file:
        file.write(b"x" * PAGES * PAGE)
        file.flush()
        yield file


def known(ask, path):
    """Whether there is an answer; else the file is named."""
    try:
        assert ask() == PAGES * PAGE
    except fpm.UnsupportedError as error:
        assert error.filename == path  # noqa: PT017
        return False
    return True


def test_nothing_is_held_until_garbage_is_collected(written):
    """What was refused is told by another way, or not; either way no descriptor stays open."""

    def look():
        seccomp.without_cachestat(errno.EPERM)
        for name in ("mincore", "move_pages"):
            seccomp.refuse(calls.number(name), errno.EPERM)
        gc.disable()
        before = len(os.listdir("/proc/self/fd"))
        with fpm.PageMap(other.pid) as pm:
            (row,) = [each for each in pm.mappings() if each.start == made.start]
            for ask in (
                lambda: pm.cached(made.start, made.end),
                lambda: pm.usage([row], fields=["cached"]),
                lambda: pm.usage([row], fields=["cache_dirty"]),
                lambda: pm.nodes(made.start, made.end),
            ):
                with contextlib.suppress(OSError):
                    ask()
        return len(os.listdir("/proc/self/fd")) - before

    with backed.mapped(os.dup(written.fileno()), PAGES) as made, Sharer({}) as other:
        assert runas.in_child(look) == 0


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", ["fstatfs", "statx", "name_to_handle_at", "readlinkat"])
def test_of_files(written, name, error):
    def look():
        seccomp.without(name, error)
        with fpm.PageMap(other.pid) as pm:
            (row,) = [each for each in pm.mappings() if each.start == made.start]
            told = known(lambda: int(pm.cached(made.start, made.end).sum()) * PAGE, written.name)
            if told:
                assert pm.usage([row], fields=["cached"])["cached"].sum() == PAGES * PAGE
        return told, known(lambda: cache_of(written.name).cached, written.name)

    with backed.mapped(os.dup(written.fileno()), PAGES) as made, Sharer({}) as other:
        told = runas.in_child(look)
    if name in ("name_to_handle_at", "readlinkat"):
        assert told[1]  # on btrfs more is needed for the mapping


@pytest.mark.parametrize("error", ERRORS)
def test_a_tmpfs_is_known_without_a_handle(error):
    need(has_cachestat(), "cachestat (Linux 6.5)", Absent)

    def look():
        seccomp.without("name_to_handle_at", error)
        return cache_of(file.name)

    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        file.write(b"x" * PAGES * PAGE)
        file.flush()
        found = runas.in_child(look)
    assert found.swapped is not None
    assert found.cached + found.swapped == PAGES * PAGE


@pytest.mark.root
@pytest.mark.parametrize("error", ERRORS)
def test_of_control_groups(error):
    """It is not taken for none."""

    def look():
        seccomp.without("fstatfs", error)
        with pytest.raises(OSError, match=group) as raised:
            fpm.Group.cgroup(group)
        assert raised.value.errno == error

    with cgroups.own() as group, Victim() as victim:
        linux.write_text(f"{group}/cgroup.procs", victim.pid)
        runas.in_child(look)
