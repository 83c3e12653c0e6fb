"""A pid that is given out a second time."""

import subprocess
import sys

import linux
from needs import Absent, need


def process_with(pid):
    """A new process under a certain pid (root)."""
    for _ in range(200):
        linux.write_text("/proc/sys/kernel/ns_last_pid", pid - 1)
        process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", "input()"], stdin=subprocess.PIPE
        )
        if process.pid == pid:
            return process
        process.kill()
        process.communicate()
    return need(False, "a pid to be had a second time", Absent)
