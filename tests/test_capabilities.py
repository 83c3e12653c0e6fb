"""What this kernel and this user may ask, against what asking shows."""

import dataclasses
import gzip
import os
import re

import pytest

import fastpagemap as fpm
import memory
import oracle
import runas
from needs import Absent, need
from victim import Victim


def test_of_this_process_and_another():
    mine = fpm.capabilities()
    with Victim() as victim:
        assert fpm.capabilities(victim.pid) == mine
    assert mine.page_size == os.sysconf("SC_PAGESIZE")
    assert mine.scan == bool(mine.categories)


def test_what_is_said_is_so():
    said = fpm.capabilities()
    with memory.touched(1) as made, fpm.PageMap() as pm:
        pages = pm.read(made.start, made.end)
        assert said.pfn == bool(pages.pfn[0])
        bit = oracle.decode(int(pages.entries["value"][0])).soft_dirty
        assert said.soft_dirty == bit
        if not said.soft_dirty:
            with pytest.raises(fpm.UnsupportedError):
                pm.soft_dirty(made.start, made.end)
        if said.scan:
            assert len(pm.regions(made.start, made.end, returns=said.categories)) == 1


@pytest.mark.root
def test_privileges_are_asked_anew():
    """What the kernel can is kept; what the user may is not."""
    before = fpm.capabilities()
    assert (before.pfn, before.map_files) == (True, True)
    nobody = runas.as_nobody(fpm.capabilities)
    assert (nobody.pfn, nobody.map_files) == (False, False)
    assert nobody.categories == before.categories
    alone = runas.run_as(fpm.capabilities, capabilities=[40])
    assert (alone.pfn, alone.map_files) == (False, True)


def test_the_table_says_what_is_missing():
    said = dataclasses.replace(fpm.capabilities(), soft_dirty=False, map_files=None)
    lines = str(said).splitlines()
    assert len(lines) == len(dataclasses.fields(said))
    assert any("soft_dirty" in line and "CONFIG_MEM_SOFT_DIRTY" in line for line in lines)
    assert any(line.split() == ["map_files", "unknown"] for line in lines)


def test_of_no_process():
    with pytest.raises(ProcessLookupError):
        fpm.capabilities(2**22 + 1)
    with pytest.raises(ValueError, match="pid"):
        fpm.capabilities(0)


def settings():
    """The configuration that this kernel was built with: {"MEM_SOFT_DIRTY": "y", ...}."""
    release = os.uname().release
    # where tests/kernels puts it, where the kernel shows it, where Debian installs it
    places = [os.environ.get("KERNEL_CONFIG", ""), "/proc/config.gz", f"/boot/config-{release}"]
    found = next(filter(os.path.exists, places), None)
    need(found, "the kernel's configuration", Absent)
    with (gzip.open if found.endswith(".gz") else open)(found, "rt") as file:
        return dict(re.findall(r"^CONFIG_(\w+)=(.*)$", file.read(), re.MULTILINE))


def test_the_kernel_was_built_so():
    """What was found by trying, against configuration and version, of which the library asks none.

    Others than root may be forbidden userfaultfd, and seccomp forbids what the kernel has.
    """
    built, said = settings(), fpm.capabilities()
    version = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
    assert built["PROC_PAGE_MONITOR"] == "y"
    assert said.soft_dirty == ("MEM_SOFT_DIRTY" in built)
    assert said.scan == (version >= (6, 7))
    assert said.cachestat == (version >= (6, 5))
    assert said.procmap_query == (version >= (6, 11))
    # a user's own: UFFD_USER_MODE_ONLY of 5.11; WP_ASYNC needs markers where no page is
    protects = {"USERFAULTFD", "HAVE_ARCH_USERFAULTFD_WP", "PTE_MARKER_UFFD_WP"} <= built.keys()
    assert said.userfaultfd_wp_async == (version >= (6, 7) and protects)
    assert said.userfaultfd_rwp_async == (version >= (7, 3) and "USERFAULTFD_RWP" in built)
    since = {"PRESENT": (6, 7), "SOFT_DIRTY": (6, 7), "GUARD": (6, 16), "ACCESSED": (7, 3)}
    expected = {name for name, first in since.items() if version >= first}
    if not said.soft_dirty:  # accepted, and never true
        expected.discard("SOFT_DIRTY")
    assert {name for name in since if fpm.Category[name] in said.categories} == expected
    # since Linux 4.3 with or without CHECKPOINT_RESTORE, which was what they were made for
    assert said.map_files == (os.geteuid() == 0)
