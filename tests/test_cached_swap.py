"""A swapped page of shared memory is not in the page cache, in the swap cache or not (root)."""

import errno
import os

import pytest

import backed
import fastpagemap as fpm
import oracle_files
import runas
import seccomp
import swap
from compare import while_still
from features import has_cachestat
from linux import PAGE
from needs import Absent, need
from sharer import Sharer

pytestmark = pytest.mark.root

PAGES = 300


@pytest.mark.parametrize("kind", ["memfd", "shared_anonymous", "posix", "sysv", "memfd_private"])
def test_swapped_pages(kind, any_swap):
    need(has_cachestat(), "cachestat (Linux 6.5)", Absent)
    with getattr(backed, kind)(PAGES) as made, fpm.PageMap() as pm:
        (row,) = [m for m in pm.mappings() if m.start == made.start]
        fd = oracle_files.open_mapping(made.start, made.end)
        swap.pageout(made.at(100), made.at(250))
        made.read(100, 140)

        def truth():
            return [oracle_files.file_page(fd, page).cached for page in range(PAGES)]

        with Sharer({}) as other, fpm.PageMap(other.pid) as theirs:
            real, said = while_still(lambda: pm.cached(made.start, made.end).tolist(), truth)
            assert said == real
            real, said = while_still(lambda: theirs.cached(made.start, made.end).tolist(), truth)
            assert said == real
            real, said = while_still(lambda: pm.usage([row], fields=["cached"])["cached"], truth)
            assert said.tolist() == [sum(real) * PAGE]
        assert all(real[:100])
        assert kind == "memfd_private" or not all(real)

        def look():
            """Then mincore is left, which takes a page with a copy in the swap cache for cached."""
            seccomp.without_cachestat(errno.ENOSYS)
            with pytest.raises(fpm.UnsupportedError, match="cachestat"):
                fpm.PageMap().cached(made.start, made.end)

        if not all(real):
            runas.in_child(look)
        os.close(fd)
