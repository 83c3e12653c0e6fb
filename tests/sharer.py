"""A second process that shares this one's memory: a fork that does as it is told."""

import multiprocessing.connection  # now: who becomes nobody may not read it
import os
import signal
import traceback
import warnings

import forks
import linux
import runas


class SharerError(RuntimeError):
    """The sharer could not do what it was told; the message is its traceback."""


class Sharer:
    """A forked child that calls functions for its parent; leaving the context ends it.

    It has what memory and what objects there were when it was forked, at the same addresses.
    """

    def __init__(self, functions, uid=None):
        """Fork it, with a table of functions by name; with `uid`, have it become that user."""
        self._link, theirs = multiprocessing.Pipe()
        with (
            warnings.catch_warnings()
        ):  # numpy may run idle threads; the child makes no use of them
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            self._link.close()
            try:
                linux.die_with_parent()
                _serve(theirs, functions, uid)
            finally:
                os._exit(0)
        theirs.close()

    def __enter__(self):
        self.ask("ready")
        return self

    def __exit__(self, *exception):
        self._link.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def send(self, name, *arguments):
        """Have a function called, and do not wait for it."""
        self._link.send((name, arguments))

    def answer(self):
        """Wait for what the function of the last send() returns, and until it does nothing more."""
        try:
            done, value = self._link.recv()
        except EOFError:
            raise SharerError("the sharer is gone") from None
        linux.wait_until_asleep(self.pid)
        if not done:
            raise SharerError(value)
        return value

    def still_busy(self):
        """Make sure that the function of the last send() has not ended, nor failed."""
        if self._link.poll():
            raise SharerError(f"it ended: {self.answer()}")

    def ask(self, name, *arguments):
        """Have a function called, and return its result."""
        self.send(name, *arguments)
        return self.answer()


def _serve(link, functions, uid):
    functions = {"ready": os.getpid, "fork": forks.waiting, **functions}
    if uid is not None:
        runas.become(uid)
        linux.die_with_parent()  # which that undid
    while True:
        try:
            name, arguments = link.recv()
        except EOFError:
            return
        try:
            link.send((True, functions[name](*arguments)))
        except Exception:
            link.send((False, traceback.format_exc()))
