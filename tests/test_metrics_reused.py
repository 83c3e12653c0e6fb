"""The memory of a process is its own group's, even if its pid is given out again (root)."""

import os
import signal

import pytest

from reused import process_with

pytest.importorskip("prometheus_client")

from fastpagemap.metrics import Collector
from scraping import PROCESSES, scrape, sleepers

pytestmark = pytest.mark.root


class Ending:
    """A process whose turn it is only once the one before was read: which ends then."""

    def __init__(self, before):
        self.before, self.pid, self.later = before, 1 << 30, None

    def _check_running(self):
        if self.later is None:
            os.kill(self.before, signal.SIGKILL)
            os.waitpid(self.before, 0)
            self.later = process_with(self.before)


def test_of_the_process_that_was_read(tmp_path):
    with sleepers(tmp_path, b"before") as (before,):
        ending = Ending(before)
        found = scrape(Collector([before, ending], budget=0))
        ending.later.kill()
        ending.later.communicate()
    assert {key[1] for key in found if key[0] == PROCESSES} == {"before"}
