"""A real program with shared memory in swap: PostgreSQL, looked at from outside."""

import functools

import pytest

import fastpagemap as fpm
import oracle
from compare import while_still
from database import buffers, fill, page_out, running
from linux import PAGE

pytestmark = pytest.mark.root


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
    with server.session("psql", "--username=postgres") as session:
        session.stdin.write("SELECT sum(abalance) FROM pgbench_accounts;\n")
        session.stdin.flush()
        session.stdout.readline()  # it has its answer, and will hold still
        pids = server.processes()
        assert page_out(pids) > 100 << 20
        assert all(swapped_shared(pid) > 100 << 20 for pid in pids)
        # what is read comes back, page by page
        session.stdin.write("SELECT sum(abalance) FROM pgbench_accounts WHERE aid < 300000;\n")
        session.stdin.flush()
        for line in session.stdout:
            if line.startswith("(1 row)"):
                break
        assert all(swapped_shared(pid) for pid in pids)
