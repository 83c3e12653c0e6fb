"""docs/howto/privileges.md and containers.md say who gets which answers: each is asked again."""

import pytest

import fastpagemap as fpm
import pages
import runas
from needs import Absent, need
from victim import Victim

#: What Docker leaves to root in a container, by the numbers of capabilities(7).
DOCKER = (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31)
CAP_SYS_PTRACE = 19


@pytest.fixture(scope="module")
def script():
    """The module that makes the table."""
    return pages.maker("privileges")


@pytest.mark.root
@pytest.mark.usefixtures("any_swap")
def test_table_is_what_the_kernel_grants(script):
    known = fpm.capabilities()
    need(known.scan and known.cachestat, "PAGEMAP_SCAN and cachestat (Linux 6.7)", Absent)
    need(known.frames and known.pfn, "frame numbers")
    page = (pages.DOCS / "howto/privileges.md").read_text()
    on_page = page.partition(script.BEGIN)[2].partition(script.END)[0]
    found = script.table()
    assert sum(map(bool, found.values())) >= len(found) - 2  # soft-dirty bits, AccessTracker
    for line in script.lines(found):
        assert line in on_page.splitlines()


def present(pid, span):
    with fpm.PageMap(pid) as pm:
        return int(pm.present(span.start, span.end).sum())


def columns(pid):
    with fpm.Group([pid]) as group:
        return group.total().dtype.names


@pytest.mark.root
def test_root_of_a_container():
    """Another user's process takes one capability more than Docker gives; union takes another."""
    with Victim(runas.NOBODY) as victim:
        span = victim.make("touched", 100)
        with pytest.raises(PermissionError, match="CAP_SYS_PTRACE"):
            runas.run_as(present, victim.pid, span, uid=0, capabilities=DOCKER)
        more = (*DOCKER, CAP_SYS_PTRACE)
        assert runas.run_as(present, victim.pid, span, uid=0, capabilities=more) == 100
        names = runas.run_as(columns, victim.pid, uid=0, capabilities=more)
        assert "rss" in names
        assert "union" not in names
