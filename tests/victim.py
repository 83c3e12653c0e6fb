"""Another process to look at: a bare interpreter that makes memory and touches it on command.

The parent's half is `Victim`; run as a script, this file is the child's half: lines of JSON in,
lines of JSON out.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time

import linux
import needs


class VictimError(RuntimeError):
    """The victim could not do what it was told; the message is its traceback."""


class Span:
    """Memory of a victim: its addresses; memory.Memory's methods are carried out over there."""

    def __init__(self, victim, number, start, end):
        self.victim, self.number, self.start, self.end = victim, number, start, end

    def do(self, method, *arguments):
        """Have the victim call memory.<method>(*arguments)."""
        return self.victim.ask("call", self.number, method, *arguments)


class Victim:
    """A child process under command; leaving the context ends it."""

    def __init__(self, uid=None):
        """Start it; with `uid`, have it become that user, without any privilege (root)."""
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self.ask("become", uid)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def ask(self, command, *arguments):
        """Send one command, wait for its answer."""
        self.send(command, *arguments)
        return self.answer()

    def send(self, command, *arguments):
        """Send one command and do not wait."""
        self._process.stdin.write(json.dumps([command, *arguments]) + "\n")
        self._process.stdin.flush()

    def answer(self):
        """Wait for the answer to the last send(), and until the victim does nothing any more."""
        line = self._process.stdout.readline()
        if not line:
            raise VictimError("the victim is gone")
        linux.wait_until_asleep(self.pid)
        outcome, value = json.loads(line)
        if outcome in ("Missing", "Absent"):
            raise getattr(needs, outcome)(value)
        if outcome == "error":
            raise VictimError(value)
        return value

    def make(self, kind, pages, **options):
        """Make memory of a kind (a key of kinds.ALL) over there."""
        return Span(self, *self.ask("make", kind, pages, options))

    def pageout(self, span):
        """Have the victim send its own memory to swap."""
        self.ask("pageout", span.number)

    def fork(self):
        """The pid of a new child of the victim, which only sleeps and dies with it."""
        pid = self.ask("fork")
        linux.wait_until_asleep(pid)  # it writes to some pages, and so gets copies, until then
        return pid

    def exec(self):
        """Make the victim a new program under the old pid: its memory is gone, it still obeys."""
        self.ask("exec")

    def exit(self):
        """Make the victim exit and wait until it is a zombie: it stays one until close()."""
        self.send("exit")
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def kill(self):
        """End the victim abruptly, and leave no zombie."""
        self._process.kill()
        self._process.wait()

    def close(self):
        """End the victim, and leave no zombie; it has a moment to give back what it made."""
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                stream.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self.kill()


@contextlib.contextmanager
def parted():
    """A victim that maps nothing which anybody else maps.

    Of others' files, what is `exclusive` changes as other processes come and go, and is soon again
    what it was: that it was the same before and after a look tells nothing.
    """
    with Victim() as victim:
        victim.ask("part")
        yield victim


# The child's half.


def _become(uid):
    import kinds  # noqa: F401  # now, while all files can be read for certain
    import runas
    import steps  # noqa: F401
    import swap  # noqa: F401

    if uid is not None:
        runas.become(uid)


def _make(kind, pages, options):
    import kinds

    memory = kinds.ALL[kind](pages, **options)
    _memories.append(memory)
    return len(_memories) - 1, memory.start, memory.end


def _call(number, method, *arguments):
    getattr(_memories[number], method)(*arguments)


def _unshare(flags):
    import namespaces

    namespaces.unshare(flags)


def _stripe(number):
    """Make every page a mapping of its own."""
    for page in range(0, _memories[number].pages, 2):
        _memories[number].protect(1, page, page + 1)


def _step(number, name, first, last):
    import steps

    steps.carry_out(_memories[number], name, first, last)


def _part():
    """Make a copy of each page of the program and its libraries: nobody else maps any any more.

    What is written by force into private memory that cannot be written is a copy.
    """
    import oracle

    with open("/proc/self/mem", "r+b", buffering=0) as content:
        for line in oracle.maps():
            if line.permissions[3] != "p" or (not line.inode and line.path != b"[vdso]"):
                continue
            if "w" in line.permissions:
                size = line.end - line.start
                with contextlib.suppress(OSError):  # before Linux 5.14
                    linux.call("madvise", line.start, size, linux.MADV_POPULATE_WRITE)
                continue
            for address in range(line.start, line.end, linux.PAGE):
                with contextlib.suppress(OSError):  # beyond the end of the file, or not readable
                    content.seek(address)
                    byte = content.read(1)
                    content.seek(address)
                    content.write(byte)


def _again(number, times):
    """Map a file that is mapped already some more times, and write all pages there."""
    _again_untouched(number, times)
    for made in _memories[-times:]:
        made.write()


def _again_untouched(number, times):
    import backed

    made = _memories[number]
    _memories.extend(backed.mapped(os.dup(made.fd), made.pages) for _ in range(times))


def _grow():
    """Have a mapping grow, page by page, for as long as this process lives."""
    import mmap

    pages = 1
    with mmap.mmap(-1, linux.PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as made:
        while True:
            pages = pages % 5000 + 1
            made.resize(pages * linux.PAGE)
            made[-1] = 1


def _pageout(number):
    import swap

    swap.pageout(_memories[number].start, _memories[number].end)


def _fork():
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    linux.die_with_parent()
    # It may have ended before that. In a pid namespace of its own, the child sees 0.
    while os.getppid() in (parent, 0):
        time.sleep(1000)
    os._exit(0)


def _clone():
    """Make a child that has this process's memory, not a copy, and sleeps for some minutes."""
    libc = ctypes.CDLL(None)
    stack = ctypes.create_string_buffer(1 << 16)
    _stacks.append(stack)
    top = ctypes.c_void_p((ctypes.addressof(stack) + len(stack)) & -64)
    flags = linux.CLONE_VM | signal.SIGCHLD
    return libc.clone(ctypes.cast(libc.sleep, ctypes.c_void_p), top, flags, ctypes.c_void_p(300))


def _exec():
    os.execv(sys.executable, [sys.executable, "-S", "-E", __file__, "answer"])


def _exit():
    os._exit(0)


_memories = []
_stacks = []
_COMMANDS = {
    "become": _become,
    "make": _make,
    "call": _call,
    "part": _part,
    "again": _again,
    "again_untouched": _again_untouched,
    "grow": _grow,
    "pageout": _pageout,
    "step": _step,
    "unshare": _unshare,
    "stripe": _stripe,
    "fork": _fork,
    "clone": _clone,
    "exec": _exec,
    "exit": _exit,
}


def _carry_out(command, *arguments):
    try:
        return "done", _COMMANDS[command](*arguments)
    except Exception as error:
        import traceback

        if isinstance(error, needs.Missing):
            return type(error).__name__, str(error)
        return "error", traceback.format_exc()


def _serve():
    if "answer" in sys.argv:  # this is the program that exec put here: it has a command to answer
        print(json.dumps(["done", None]), flush=True)
    for line in sys.stdin:
        print(json.dumps(_carry_out(*json.loads(line))), flush=True)
    for memory in reversed(_memories):
        memory.close()


if __name__ == "__main__":
    _serve()
