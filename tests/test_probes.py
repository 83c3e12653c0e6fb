"""What was found out about the kernel while something ran out is not believed for good."""

import contextlib
import errno
import os
import resource
import subprocess
import sys

import numpy as np
import pytest

import fastpagemap as fpm
import memory
import runas
import seccomp
from fastpagemap._kernel import uffd
from linux import PAGE


def answers(made):
    with fpm.PageMap() as pm:
        masks = pm.masks(made.start, made.end)
        (usage,) = pm.usage([fpm.Mapping(made.start, made.end, "rw-p", 0, 0, 0, "")]).tolist()
        return (
            fpm.capabilities(),
            usage,
            masks.shared.tolist(),
            pm.regions(made.start, made.end).tolist(),
            pm.snapshot().soft_dirty,
        )


@contextlib.contextmanager
def descriptors(free):
    """Few descriptors that this process may still open."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unused = [number for number in range(4096) if not is_open(number)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (unused[free], hard[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, hard)


def is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def address_space(free):
    """Few pages of address space that this process may still map."""
    hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, ((pages + free) * PAGE, hard[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, hard)


@pytest.mark.parametrize("free", range(10))
@pytest.mark.parametrize("scarce", [descriptors, address_space])
def test_a_shortage_is_not_remembered(scarce, free):
    """At whichever probe it comes: the next call finds out what there is."""

    def child():
        with memory.touched(600) as made:
            before = answers(made)
            seccomp.forget()
            with scarce(free), contextlib.suppress(OSError, MemoryError):
                answers(made)
            return answers(made) == before

    assert runas.in_child(child)


def test_a_probe_that_fails_says_so():
    """It is no answer, not even once."""

    def child():
        seccomp.forget()
        with (
            fpm.PageMap() as pm,
            descriptors(0),
            pytest.raises(OSError, match="Too many") as caught,
        ):
            pm.masks(0, PAGE)
        return caught.value.errno

    assert runas.in_child(child) == errno.EMFILE


@pytest.mark.usefixtures("_write_tracking")
def test_no_descriptor_for_userfaultfd():
    """That says nothing of what the kernel can."""

    def child():
        with descriptors(0), pytest.raises(OSError, match="Too many") as caught:
            uffd.features()
        return caught.value.errno, bool(uffd.features() & uffd.WP_ASYNC)

    assert runas.in_child(child) == (errno.EMFILE, True)


def test_the_c_level_is_imported_later():
    program = """if True:
        import errno, resource
        import fastpagemap
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        for free in range(3, 10):
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard[1]))
            try:
                import fastpagemap.core
            except (OSError, ImportError):
                pass
            resource.setrlimit(resource.RLIMIT_NOFILE, hard)
        import fastpagemap.core
        """
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.root
def test_who_may_not_see_its_own_entries():
    """A process that became another user: it may still look at others, and knows less."""

    def child():
        seccomp.forget()
        with fpm.PageMap() as pm, memory.touched(600) as made:
            entries = pm.read(made.start, made.end).present
            os.setresgid(runas.NOBODY, runas.NOBODY, runas.NOBODY)
            os.setresuid(runas.NOBODY, runas.NOBODY, runas.NOBODY)
            with pytest.raises(PermissionError):
                open("/proc/self/pagemap").close()
            seccomp.forget()
            assert pm.present(made.start, made.end).all()
            assert pm.usage(fields="present")["present"].sum() > 0
            with pytest.raises(fpm.UnsupportedError):
                pm.soft_dirty(made.start, made.end)
            with pytest.raises(fpm.UnsupportedError, match="cannot be found out"):
                pm.clear_soft_dirty()
            np.testing.assert_array_equal(pm.read(made.start, made.end).present, entries)
        return True

    assert runas.in_child(child)
