"""What PostgreSQL's memory looks like when its shared buffers have been swapped out.

python examples/postgres.py [PICTURE]

Starts a server of its own in a temporary directory (root, and Debian's package postgresql), makes
swap for the while, fills the shared buffers, sends them to swap, has four sessions run a query that
brings some of them back, and shows the server with the commands that it prints. All is taken away
again. The makers are the tests' own: `make postgres` runs this with them on the path.
"""

import contextlib
import shlex
import sys

try:
    import swap
    from database import fill, page_out, running
    from needs import Missing
except ModuleNotFoundError as error:
    sys.exit(f"postgres: {error.name} not found; the tests' makers are needed: run 'make postgres'")

from fastpagemap.cli import main as fastpagemap

SWAP = 512 << 20
SESSIONS = 4
ALL = "SELECT sum(abalance) FROM pgbench_accounts;"
SOME = "SELECT sum(abalance) FROM pgbench_accounts WHERE aid < 150000;"


def run(*arguments: str) -> int:
    """Run a command, and show it above what it prints."""
    print(f"\n$ fastpagemap {shlex.join(arguments)}", flush=True)
    return fastpagemap(arguments)


def main(picture: str) -> int:
    """Make it, and look at it."""
    how = ("--username=postgres", "--tuples-only", "--no-align")
    with swap.any_swap(SWAP), running() as server, contextlib.ExitStack() as stack:
        fill(server)
        sessions = [stack.enter_context(server.session("psql", *how)) for _ in range(SESSIONS)]
        # Each session has a process of its own, which maps what it has looked at. MADV_PAGEOUT
        # leaves alone what several processes map, so only the first has looked until then.
        pid = server.ask(sessions[0], "SELECT pg_backend_pid();")
        server.ask(sessions[0], ALL)
        print(f"{page_out(server.processes()) >> 20} MiB of shared memory are in swap")
        for session in sessions:
            server.ask(session, SOME)
        code = run("report", "--tree", str(server.processes()[0]))
        code = code or run("report", pid, "--filter", "present>0", "--min", "1M")
        return code or run("map", pid, "-o", picture)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "docs/postgres.png"))
    except Missing as missing:
        sys.exit(f"postgres: this machine lacks {missing}")
