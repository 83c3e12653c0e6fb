"""Memory of files: what the kernel does not tell of, or harms who writes to it, is refused."""

import errno
import os

import pytest

import backed
import fastpagemap as fpm
import features
import hugetlb
import memory
import runas
from tracked import numbers

pytestmark = pytest.mark.usefixtures("_write_tracking")
MADE = 16


def posix_private(pages):
    return backed.posix(pages, flags=backed.FILE_PRIVATE)


def dev_zero(flags):
    def made(pages):
        return backed.mapped(os.open("/dev/zero", os.O_RDWR), pages, flags).write()

    return made


def no_file(pages):
    """The file has no name and no descriptor: who is not root cannot look at it."""
    made = backed.file_shared(pages)
    fd, made.fd = made.fd, -1
    os.dup2(os.open("/dev/null", os.O_RDONLY), fd)
    return made


DISK = {
    "shared": backed.file_shared,
    "private": backed.file_private,
    "copied": backed.file_copied,
    "no file": no_file,
}
PRIVATE = {"memfd": backed.memfd_private, "posix": posix_private}
TRACKED = {
    "private /dev/zero": dev_zero(backed.FILE_PRIVATE),
    "shared /dev/zero": dev_zero(backed.FILE_SHARED),
    "posix": backed.posix,
}


def refusal(make):
    with make(MADE) as made, pytest.raises(fpm.UnsupportedError) as caught:
        fpm.WriteTracker(made.start, made.end)
    assert caught.value.errno == errno.EOPNOTSUPP
    return str(caught.value)


@pytest.mark.parametrize("kind", DISK)
def test_a_file_on_a_disk(kind):
    assert "loop for ever" in refusal(DISK[kind])
    assert "loop for ever" in runas.as_nobody(refusal, DISK[kind])


@pytest.mark.parametrize("kind", PRIVATE)
def test_a_private_mapping_of_shared_memory(kind):
    assert "MADV_DONTNEED" in refusal(PRIVATE[kind])
    assert "MADV_DONTNEED" in runas.as_nobody(refusal, PRIVATE[kind])


@pytest.mark.root
def test_a_private_mapping_of_a_mounted_tmpfs():
    assert "MADV_DONTNEED" in refusal(backed.tmpfs_private)


def told(make):
    with make(MADE) as made, fpm.WriteTracker(made.start, made.end) as tracker:
        made.write(3, 5, value=9)
        return numbers(tracker.written())


@pytest.mark.parametrize("kind", TRACKED)
def test_what_only_looks_like_a_file(kind):
    assert told(TRACKED[kind]) == [3, 4]
    assert runas.as_nobody(told, TRACKED[kind]) == [3, 4]


@pytest.mark.root
@pytest.mark.parametrize("make", [backed.tmpfs, hugetlb.hugetlb_memfd])
def test_other_memory_of_files(make):
    with make(MADE) as made:
        fpm.WriteTracker(made.start, made.end).close()


def test_a_sysv_segment_whose_mapping_is_split():
    """Kernels before 6.18 crash when it is unregistered part by part."""
    if features.is_before(6, 18):
        assert "may crash" in refusal(backed.sysv)
        return
    with backed.sysv(MADE) as made:
        for split in (lambda: made.lock(4, 8), lambda: made.protect(memory.READ, 9, 10)):
            with fpm.WriteTracker(made.start, made.end) as tracker:
                made.write(3, 5, value=9)
                split()
                assert numbers(tracker.written()) == [3, 4]


def test_part_of_a_span():
    """One mapping that is refused is enough; nothing of the others stays protected."""
    with backed.memfd(MADE) as made, backed.file_shared(4) as file:
        made.map(backed.FILE_SHARED, fd=file.fd, first=4, last=8)
        with pytest.raises(fpm.UnsupportedError):
            fpm.WriteTracker(made.start, made.end)
        fpm.WriteTracker(made.start, made.at(4)).close()
