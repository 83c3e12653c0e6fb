"""PostgreSQL with shared memory in swap: a server of its own, its buffers filled and sent away."""

import contextlib
import glob
import os
import pwd
import shutil
import subprocess
import tempfile
import time

import backed
import linux
import oracle
import runas
from needs import need

PORT = "5432"  # the name of a socket in the server's own directory
PATIENCE_S = 240  # on a busy machine a program takes ten times as long as on an idle one
CONFIGURATION = """
listen_addresses = ''
shared_buffers = 256MB
huge_pages = off
fsync = off
autovacuum = off
max_parallel_workers_per_gather = 0
"""


class Server:
    """A cluster of its own, and a server for it that only a socket in its directory leads to."""

    def __init__(self, directory):
        """Nothing is started yet; `directory` is for the cluster and the socket."""
        self.directory = directory
        self.data = os.path.join(directory, "data")
        self._programs = max(glob.glob("/usr/lib/postgresql/*/bin"), key=_version, default=None)
        need(self._programs, "PostgreSQL (Debian's package postgresql)")
        try:
            self._user = pwd.getpwnam("postgres")
        except KeyError:
            self._user = pwd.getpwuid(runas.NOBODY)
        os.chown(directory, self._user.pw_uid, self._user.pw_gid)

    def run(self, program, *arguments):
        """Run one of PostgreSQL's programs as its user; return what it says."""
        done = subprocess.run(**self._how(program, *arguments), timeout=PATIENCE_S, check=False)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def _how(self, program, *arguments):
        """The arguments for subprocess, for this user and this server."""
        return {
            "args": [os.path.join(self._programs, program), *arguments],
            "user": self._user.pw_uid,
            "group": self._user.pw_gid,
            "extra_groups": [],
            "cwd": self.directory,
            "env": {
                "PGHOST": self.directory,
                "PGPORT": PORT,
                "PGDATABASE": "postgres",
                "PGCTLTIMEOUT": str(PATIENCE_S),
                "LC_ALL": "C",
            },
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "text": True,
        }

    @contextlib.contextmanager
    def session(self, program, *arguments):
        """A program that goes on, and is ended afterwards."""
        how = self._how(program, *arguments) | {"stdin": subprocess.PIPE}
        with subprocess.Popen(**how) as process:
            try:
                yield process
            finally:
                process.kill()

    def start(self, log, pid=None):
        """Start the server; with `pid`, as this process, in a pid namespace where it is free."""
        if pid is None:
            self.run("pg_ctl", "start", "--wait", "-D", self.data, "-l", log)
            return
        how = self._how("postgres", "-D", self.data)
        linux.write_text("/proc/sys/kernel/ns_last_pid", pid - 1)
        with open(log, "wb") as file:
            process = subprocess.Popen(**how | {"stdout": file})
        assert process.pid == pid
        # The state is the last line of this file, once it is there.
        end = time.monotonic() + PATIENCE_S
        while not self._says_ready():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)

    def _says_ready(self):
        try:
            with open(os.path.join(self.data, "postmaster.pid")) as file:
                return file.read().rstrip().endswith("ready")
        except FileNotFoundError:
            return False

    def ask(self, session, query):
        """Have a session of psql, tuples only, answer a query of one row and one column."""
        session.stdin.write(query + "\n")
        session.stdin.flush()
        return session.stdout.readline().strip()

    def processes(self):
        """The pids of the server and of all its children."""
        with open(os.path.join(self.data, "postmaster.pid")) as file:
            server = int(file.readline())
        with open(f"/proc/{server}/task/{server}/children") as file:
            return [server, *map(int, file.read().split())]


def _version(path):
    return float(path.split("/")[-2])


@contextlib.contextmanager
def running(pid=None):
    """A running server, which is stopped whatever happens; `pid` as for ``Server.start``."""
    directory = tempfile.mkdtemp(prefix="fastpagemap-", dir=backed.disk_directory())
    try:
        made = Server(directory)
        made.run("initdb", "--auth=trust", "--no-sync", "--username=postgres", made.data)
        with open(os.path.join(made.data, "postgresql.conf"), "a") as file:
            file.write(CONFIGURATION + f"unix_socket_directories = '{directory}'\n")
        log = os.path.join(directory, "log")
        try:
            made.start(log, pid)
            yield made
        finally:
            made.run("pg_ctl", "stop", "--wait", "--mode=immediate", "-D", made.data)
    finally:
        shutil.rmtree(directory)


def fill(server):
    """Have the server read 150 MB into its buffers, and write some of it."""
    server.run("pgbench", "--initialize", "--init-steps=dtgp", "--scale=10", "--username=postgres")
    for line in ("CREATE EXTENSION pg_prewarm", "SELECT pg_prewarm('pgbench_accounts')"):
        server.run("psql", "--username=postgres", "--command", line)
    server.run("pgbench", "--transactions=50", "--client=4", "--no-vacuum", "--username=postgres")


def buffers(pid):
    """The line of maps of the shared buffers: the largest shared mapping."""
    shared = [line for line in oracle.maps(pid) if "s" in line.permissions]
    if not shared:
        raise ProcessLookupError(f"process {pid} has ended")
    return max(shared, key=lambda line: line.end - line.start)


def page_out(pids):
    """Have every process send what it maps of the buffers to swap; the bytes that smaps shows."""
    for pid in pids:
        # a worker of autovacuum may end meanwhile
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            line = buffers(pid)
            linux.process_madvise(pid, line.start, line.end, linux.MADV_PAGEOUT)
    line = buffers(pids[0])
    return oracle.swap_sums(pids[0])[line.start, line.end]
