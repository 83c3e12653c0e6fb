"""Forked children that do nothing but keep a copy of their parent's memory."""

import contextlib
import os
import signal

import linux


def waiting(first=None):
    """Fork a child that calls `first`, and waits until it or its parent is killed; its pid.

    It waits by now: until then it touches memory.
    """
    pid = os.fork()
    if pid == 0:
        try:
            linux.die_with_parent()
            if first:
                first()
            while True:
                signal.pause()
        finally:
            os._exit(1)
    linux.wait_until_asleep(pid)
    return pid


@contextlib.contextmanager
def forked():
    """Keep such a child of this process while the context lasts; its pid."""
    pid = waiting()
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
