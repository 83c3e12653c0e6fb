"""Write-tracking by those without privileges, and where userfaultfd is forbidden."""

import errno
import gc
import os

import pytest

import fastpagemap as fpm
import linux
import memory
import runas
import seccomp
from linux import PAGE
from tracked import array, numbers, tracked


@pytest.mark.root
@pytest.mark.usefixtures("_write_tracking")
def test_without_privileges():
    def mine():
        with tracked(memory.touched) as (made, tracker):
            made.write(3, 5, value=2)
            return numbers(tracker.written())

    assert runas.as_nobody(mine) == [3, 4]


def test_without_userfaultfd():
    """Before Linux 6.7, or forbidden: said, and no descriptor is left."""
    numbers_of = {"x86_64": 323, "aarch64": 282}

    def child():
        seccomp.refuse(numbers_of[os.uname().machine], errno.EPERM)
        with memory.touched(4) as made:
            gc.collect()
            before = len(os.listdir("/proc/self/fd"))
            with pytest.raises(fpm.UnsupportedError, match="forbidden"):
                fpm.WriteTracker(made.start, made.end)
            gc.collect()
            return len(os.listdir("/proc/self/fd")) == before

    assert runas.in_child(child)


@pytest.mark.root
@pytest.mark.usefixtures("_write_tracking")
def test_forbidden_to_the_unprivileged_for_faults_of_the_kernel_only():
    """vm.unprivileged_userfaultfd = 0, which most machines have, does not forbid it."""
    name = "/proc/sys/vm/unprivileged_userfaultfd"
    before = linux.read_int(name)

    def mine():
        with tracked(memory.touched) as (made, tracker), open("/dev/zero", "rb") as zero:
            zero.readinto(memoryview(array(made))[PAGE : 2 * PAGE])
            return numbers(tracker.written())

    if before:
        linux.write_text(name, 0)
    try:
        assert runas.as_nobody(mine) == [1]
    finally:
        if before:
            linux.write_text(name, before)
