"""What a Prometheus server gets of a collector, and processes of any names for it to read."""

import contextlib
import os
import shutil
import subprocess
import threading

import prometheus_client
from prometheus_client.parser import text_string_to_metric_families

import linux

MEMORY = "namedprocess_namegroup_memory_bytes"
AGE = "fastpagemap_memory_age_seconds"
PROCESSES = "namedprocess_namegroup_num_procs"
#: Names of processes, and of their groups: what a terminal could act on is escaped.
ODD_NAMES = {
    b'a"b\\c\nd': r'a"b\c\nd',
    b"\xff{e}=": r"\xff{e}=",
    "é\u2028\r".encode(): r"é\u2028\r",
    b"\x85\x0b\x1b[31m": r"\x85\x0b\x1b[31m",
    b" ": " ",
}
UNREADABLE = ("fastpagemap_unreadable_processes",)


def scrape(collector):
    """Each value by its metric and labels, as they are in the text that a server gets."""
    registry = prometheus_client.CollectorRegistry(auto_describe=True)
    registry.register(collector)
    text = prometheus_client.generate_latest(registry).decode()
    samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
    found = {(each.name, *each.labels.values()): each.value for each in samples}
    assert len(found) == len(samples)  # a server refuses a scrape with the same labels twice
    return found


def counted(collector):
    """Scrape, let the thread count what is dear, and scrape again."""
    scrape(collector)
    finish()
    return scrape(collector)


def finish():
    for thread in threading.enumerate():
        if thread.name == "fastpagemap-metrics":
            thread.join()


def values(found, metric, group):
    return {key[2]: value for key, value in found.items() if key[:2] == (metric, group)}


@contextlib.contextmanager
def sleepers(directory, *names):
    """A process of each name, which may be any bytes; their pids, once all of them sleep."""
    with contextlib.ExitStack() as stack:
        pids = []
        for number, name in enumerate(names):
            place = os.fsencode(directory / str(number))
            os.mkdir(place)
            program = os.path.join(place, name)
            shutil.copy(shutil.which("sleep"), program)
            process = stack.enter_context(subprocess.Popen(["sleep", "600"], executable=program))
            stack.callback(process.kill)
            pids.append(process.pid)
        for pid in pids:  # until then its libraries are still to be mapped
            linux.wait_until_asleep(pid)
        yield pids
