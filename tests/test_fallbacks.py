"""Shared memory in swap when the best way is barred: the next one is taken, and nothing guessed.

Who asks is a forked child of less privilege, which has the same memory; what is true, the painter
knows. The kernel does the refusing.
"""

import contextlib
import errno
import os

import numpy as np
import pytest

import backed
import linux
import oracle
import runas
import seccomp
import sharing
from compare import Said, honest
from fastpagemap._kernel import pagecache
from features import has_cachestat
from linux import PAGE
from needs import Absent, need
from painted import all_unknown, ask_painted
from sharing import MIXED, expected, paint

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("any_swap")]

PAGES = len(MIXED)
ALL, NONE = sharing.extremes(PAGES)
WHOLE_TRUTH = Said(expected(MIXED), [False] * PAGES)


@contextlib.contextmanager
def shown_to_all(made, mode=0o666):
    """Shared memory whose file anyone may read and write."""
    with made:
        os.fchmod(made.fd, mode)
        yield made


# By map_files.


@pytest.mark.parametrize("kind", ["shared_anonymous", "sysv", "memfd", "memfd_private", "twice"])
def test_one_capability_is_enough(kind):
    with sharing.KINDS[kind](PAGES) as made:
        assert ask_painted(made, MIXED, capabilities=[runas.CAP_CHECKPOINT_RESTORE]) == WHOLE_TRUTH


@pytest.mark.parametrize("keep_fd", [False, True])
def test_one_capability_does_not_open_another_users_file(keep_fd):
    with backed.posix(PAGES) as made:
        capabilities = [runas.CAP_CHECKPOINT_RESTORE]
        said = ask_painted(made, MIXED, capabilities=capabilities, keep_fd=keep_fd)
    assert all_unknown(said, MIXED)


# By a descriptor of the process, by the path.


@pytest.mark.parametrize("kind", ["memfd", "memfd_private", "in_part", "half_page"])
def test_a_descriptor_is_enough(kind):
    with sharing.KINDS[kind](PAGES) as made:
        assert ask_painted(made, MIXED, keep_fd=True) == WHOLE_TRUTH


def test_a_descriptor_of_an_unlinked_file_is_enough():
    with shown_to_all(backed.posix(PAGES)) as made:
        os.unlink(os.readlink(f"/proc/self/fd/{made.fd}"))
        assert ask_painted(made, MIXED, keep_fd=True) == WHOLE_TRUTH
        assert all_unknown(ask_painted(made, MIXED), MIXED)


def test_the_path_is_enough():
    with shown_to_all(backed.posix(PAGES, offset=3)) as made:
        assert ask_painted(made, MIXED) == WHOLE_TRUTH


def test_uid_0_without_a_capability():
    """It owns the file, and may still not open map_files."""
    with backed.posix(PAGES) as made:
        assert ask_painted(made, MIXED, uid=0) == WHOLE_TRUTH


@pytest.mark.parametrize("other", ["same device", "same inode", "pipe", "nothing"])
def test_another_file_at_the_path(other):
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(backed.mounted("tmpfs", "mode=755"))
        elsewhere = stack.enter_context(backed.mounted("tmpfs", "mode=755"))
        made = stack.enter_context(shown_to_all(backed.posix(PAGES, directory=directory)))
        path = os.readlink(f"/proc/self/fd/{made.fd}")
        if other == "nothing":
            os.unlink(path)
        else:
            place = elsewhere if other == "same inode" else directory
            stack.enter_context(backed.bound(impostor(place, other, os.fstat(made.fd)), path))
        assert all_unknown(ask_painted(made, MIXED), MIXED)


def impostor(directory, kind, real):
    """Make something that is not the file `real`, but would tell much: it is wholly in swap."""
    path = os.path.join(directory, "impostor")
    if kind == "pipe":
        os.mkfifo(path, 0o666)
        return path
    with open(path, "x+b") as file:
        os.fchmod(file.fileno(), 0o666)
        os.ftruncate(file.fileno(), PAGES * PAGE)
        sharing.send_to_swap(file.fileno(), 0, ALL)
        about = os.fstat(file.fileno())
    same_device, same_inode = about.st_dev == real.st_dev, about.st_ino == real.st_ino
    need((kind == "same device", kind == "same inode") == (same_device, same_inode), kind, Absent)
    return path


def test_a_memfd_with_the_number_of_a_sysv_segment():
    """Device and inode are not enough where inodes are numbers given out twice."""
    next_id = "/proc/sys/kernel/shm_next_id"
    need(os.path.exists(next_id), "SysV segments of a given number", Absent)
    with backed.memfd(PAGES) as other:
        linux.write_text(next_id, os.fstat(other.fd).st_ino)
        with backed.sysv(PAGES) as made:
            (line,) = [line for line in oracle.maps() if line.start == made.start]
            assert line.inode == os.fstat(other.fd).st_ino
            for layout, others in ((MIXED, NONE), (MIXED, ALL), (NONE, ALL), (ALL, NONE)):
                paint(other, others)
                honest(ask_painted(made, layout), expected(layout))


# Who may open a file, and is told nothing about it.


@pytest.mark.parametrize("layout", [ALL, NONE, MIXED], ids=["all", "none", "mixed"])
@pytest.mark.parametrize("error", [None, errno.ENOSYS, errno.EPERM], ids=str)
def test_a_file_that_is_only_to_be_read(layout, error):
    """Of it, mincore says that all is in core, and cachestat, since Linux 6.14, nothing."""
    before = (lambda: seccomp.without_cachestat(error)) if error else None
    with shown_to_all(backed.posix(PAGES), mode=0o644) as made:
        said = ask_painted(made, layout, before=before)
    honest(said, expected(layout))
    if error:
        assert any(said.unknown) == (layout is not NONE)


def test_mincore_says_so_when_it_may_not_tell():
    def answer(made):
        fd = os.open(f"/proc/self/fd/{made.fd}", os.O_RDONLY)
        unresolved, swapped = np.ones(PAGES, np.uint8), np.zeros(PAGES, np.uint8)
        with pytest.raises(PermissionError):
            pagecache.by_mincore(fd, "file", 0, unresolved, swapped)
        return unresolved.all(), swapped.any()

    with shown_to_all(backed.posix(PAGES), mode=0o644) as made:
        paint(made, MIXED)
        assert runas.as_nobody(answer, made) == (True, False)


# A file that is shorter than its mapping: pages beyond its end are in no swap, and a SIGBUS.

WHO = {
    "root": {"uid": 0, "capabilities": [runas.CAP_SYS_ADMIN]},
    "descriptor": {"keep_fd": True},
    "mincore": {"keep_fd": True, "before": lambda: seccomp.without_cachestat(errno.ENOSYS)},
    "sum": {},
}


@pytest.mark.parametrize("rights", WHO)
@pytest.mark.parametrize("size", [0, 1, 3 * PAGE, 17 * PAGE + 5, 60 * PAGE])
def test_a_truncated_file(rights, size):
    pages = -(-size // PAGE)
    layout = MIXED[:pages] + "." * (PAGES - pages)
    with backed.memfd(PAGES) as made:
        os.ftruncate(made.fd, size)
        said = ask_painted(made, layout, **WHO[rights])
    if rights == "mincore" or not has_cachestat():  # which may take a copy in RAM for the page
        assert not any(s and not r for s, r in zip(said.swapped, expected(layout), strict=True))
    else:
        honest(said, expected(layout))
    assert rights == "sum" or not any(said.unknown)
