"""What this kernel has, found by trying it out, for tests whose answers depend on it."""

import functools
import os

import fastpagemap as fpm
import memory
import oracle
import oracle_files
from needs import Absent, Missing, need


@functools.cache
def keeps_soft_dirty():
    """Whether this kernel has soft-dirty bits: whether a page just written has one."""
    with memory.touched(1) as made:
        return oracle.decode(oracle.words(made.start, made.end)[0]).soft_dirty


def is_before(*version):
    """Whether this kernel is older than a version, of two numbers."""
    return tuple(map(int, os.uname().release.split(".")[:2])) < version


@functools.cache
def has_cachestat():
    """Whether this kernel has cachestat (Linux 6.5)."""
    fd = os.memfd_create("fastpagemap")
    try:
        oracle_files.file_page(fd, 0)
    except Missing:
        return False
    finally:
        os.close(fd)
    return True


def need_page_counts():
    """Go on only where each page is counted: else a large folio has the average of its pages."""
    what = "counts of single pages (no CONFIG_NO_PAGE_MAPCOUNT)"
    need(fpm.capabilities().page_mapcounts is not False, what, Absent)
