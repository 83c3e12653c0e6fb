"""A process whose main thread ends while the others live on.

Run as a script it is that process: it makes memory, prints where, and ends its main thread as soon
as it is told to.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import linux
import memory
from needs import Absent, need

PAGES = 4096
_EXIT = {"x86_64": 60, "aarch64": 93}


class Leaderless:
    """The process; leaving the context ends it. Its memory, `start` to `end`, is present."""

    def __init__(self, threads=2):
        need(os.uname().machine in _EXIT, "the number of exit on this architecture", Absent)
        self._process = subprocess.Popen(
            [sys.executable, "-E", __file__, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.pid = self._process.pid
        self.start = int(self._process.stdout.readline())
        self.end = self.start + PAGES * linux.PAGE
        linux.wait_until_asleep(self.pid)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.kill()
        self._process.stdin.close()
        self._process.stdout.close()

    def end_main_thread(self):
        """Have the main thread end, and wait until it has."""
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        deadline = time.monotonic() + 60
        while self.state() != "Z":
            if time.monotonic() > deadline:
                raise TimeoutError("the main thread goes on")
            os.sched_yield()

    def state(self):
        """The state of the main thread, as ps shows it."""
        return linux.stat(self.pid)[0]

    def kill(self):
        """End all of it, and leave no zombie."""
        self._process.kill()
        self._process.wait()

    def kill_soon(self):
        """End all of it, and do not wait."""
        self._process.kill()


def without_main_thread(function):
    """What a function returns in a child in which only the thread that calls it is left."""
    need(os.uname().machine in _EXIT, "the number of exit on this architecture", Absent)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        threading.Thread(target=_answer, args=(function, writer)).start()
        linux.syscall(_EXIT[os.uname().machine], 0)
    os.close(writer)
    with open(reader, "rb") as file:
        answer = file.read()
    os.waitpid(pid, 0)
    return pickle.loads(answer)


def _answer(function, writer):
    try:
        linux.die_with_parent()
        while Path("/proc/self/statm").read_text() != "0 0 0 0 0 0 0\n":
            os.sched_yield()
        answer = function()
    except BaseException as error:
        answer = repr(error)
    os.write(writer, pickle.dumps(answer))
    os._exit(0)


def _main(threads):
    linux.die_with_parent()
    for _ in range(threads):
        threading.Thread(target=signal.pause).start()
    made = memory.touched(PAGES)
    print(made.start, flush=True)
    sys.stdin.buffer.readline()
    linux.syscall(_EXIT[os.uname().machine], 0)


if __name__ == "__main__":
    _main(int(sys.argv[1]))
