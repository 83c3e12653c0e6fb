"""usage_of() of a process that keeps its memory locked: it waits, and no other thread does."""

import os
import threading
import time

import pytest

import fastpagemap as fpm
import linux
from fastpagemap.engine.process_sums import sums_of
from fastpagemap.process.process import open_process
from locked import Locked

COLUMNS = ("present",)


def wait_until_waiting(thread):
    """Wait until the kernel keeps a thread of this process waiting for a lock."""
    deadline = time.monotonic() + 60
    while linux.stat(f"self/task/{thread.native_id}")[0] != "D":
        assert time.monotonic() < deadline
        os.sched_yield()


@pytest.mark.parametrize("opened", ["before", "after"])
def test_only_its_thread_waits(opened):
    with Locked() as locked:
        process, found = open_process(locked.pid), []

        def ask():
            if opened == "after":
                found.append(fpm.usage_of([os.getpid(), locked.pid], fields=COLUMNS)["present"][1])
            else:
                found.extend(sums_of(process, COLUMNS, counted=False).sizes)

        thread = threading.Thread(target=ask, daemon=True)
        locked.lock()
        thread.start()
        wait_until_waiting(thread)
        assert not found
        locked.unlock()
        thread.join(60)
        assert found[0] > 0
