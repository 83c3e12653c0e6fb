"""A real program with shared memory in swap: PostgreSQL, looked at from outside."""

import functools

import pytest

import fastpagemap as fpm
import linux
import oracle
from compare import while_still
from database import buffers, fill, page_out, running
from linux import PAGE
from oracle_group import Twin, slots

pytestmark = pytest.mark.root

SUM = "SELECT sum(abalance) FROM pgbench_accounts"
#: A session that answers each query with one line: who has read it knows that the query is over.
SESSION = ("psql", "--username=postgres", "--tuples-only", "--no-align")


@pytest.fixture
def server():
    """A running server, which is stopped whatever happens."""
    with running() as made:
        yield made


def swapped_shared(pid):
    """Compare mapping by mapping; return how much of shared memory is in swap."""
    with fpm.PageMap(pid) as pm:
        state = functools.partial(oracle.swap_sums, pid)
        sums, (table, masks) = while_still(
            lambda: (pm.usage(), pm.masks(*buffers(pid)[:2])), state, state
        )
        rows = {(int(row["start"]), int(row["end"])): row for row in table}
        for span, swap in sums.items():
            if span in rows:  # the vsyscall page has entries nowhere
                assert (rows[span]["swapped"], rows[span]["unknown"]) == (swap, 0), (pid, span)
        assert masks.swapped.sum() * PAGE == sums[buffers(pid)[:2]]
    assert table["swapped"].sum() == sum(sums.values())
    return table["swapped_shared"].sum()


def test_postgres(server, any_swap):
    fill(server)
    with server.session(*SESSION) as session:
        server.ask(session, f"{SUM};")  # it has its answer, and will hold still
        pids = server.processes()
        assert page_out(pids) > 100 << 20
        assert all(swapped_shared(pid) > 100 << 20 for pid in pids)
        # what is read comes back, page by page
        server.ask(session, f"{SUM} WHERE aid < 300000;")
        assert all(swapped_shared(pid) for pid in pids)


def by_twins(pids):
    """What processes that map the buffers have: as sums, and each page once."""
    swaps = [oracle.swap_sums(pid) for pid in pids]
    total = Twin(pids).total()
    places = set().union(*map(slots, pids))
    # not only the buffers: the server has other segments, which may be swapped, too
    shared = {
        (line.device, line.inode, line.offset): sums[line[:2]]
        for pid, sums in zip(pids, swaps, strict=True)
        for line in oracle.maps(pid)
        if "s" in line.permissions
    }
    return {name: total[name] for name in ("rss", "union", "unique")} | {
        "swapped": sum(sum(each.values()) for each in swaps),
        "swapped_union": len(places) * PAGE + sum(shared.values()),
    }


def test_a_server_and_its_sessions_counted_once(server, any_swap):
    """The group line of the table in docs/howto/group.md."""
    fill(server)
    with server.session(*SESSION) as one, server.session(*SESSION) as two:
        server.ask(one, f"{SUM};")
        page_out(server.processes())
        for session in (one, two):
            server.ask(session, f"{SUM} WHERE aid < 150000;")
        pids = server.processes()
        for line in oracle.maps(pids[0]):
            if "s" in line.permissions and line != buffers(pids[0]):
                linux.process_madvise(pids[0], line.start, line.end, linux.MADV_PAGEOUT)
        with fpm.Group.tree(pids[0]) as group:
            assert set(group.pids) == set(pids)
            wanted, total = while_still(group.total, functools.partial(by_twins, pids))
    assert {name: int(total[name]) for name in wanted} == wanted
    assert total["rss"] > 2 * total["union"]
    assert total["swapped"] > len(pids) * (50 << 20)
    assert total["swapped_union"] < 200 << 20
