"""What this kernel and this user may ask, against what asking shows."""

import dataclasses
import os

import pytest

import fastpagemap as fpm
import memory
import oracle
import runas
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
