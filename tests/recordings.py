"""Recordings made step by step: what happens between two readings is up to the test."""

import os

from fastpagemap.cli.recorder import Budget, Recorder
from fastpagemap.report.recording import Recording


class Steps:
    """Stands where the recorder waits: does the next step at once, and ends after the last."""

    def __init__(self, *steps):
        self._steps = list(steps)

    def wait(self, seconds):
        if not self._steps:
            return True
        self._steps.pop(0)()
        return False


def record(directory, pids, *steps, max_bytes=1 << 26, host="h", fields=None, timeout=60.0):
    """Read processes, and again after each step; the recorder, with everything saved."""
    choose = pids if callable(pids) else lambda: pids
    files = Recording(os.fspath(directory), host, 900.0, max_bytes)
    recorder = Recorder(choose, files, fields, timeout)
    recorder.run(Budget(0.01, 1.0), Steps(*steps), None)
    return recorder


def files_in(directory):
    """All files below a directory, from the oldest on."""
    found = [os.path.join(at, name) for at, _, names in os.walk(directory) for name in names]
    return sorted(found, key=os.path.basename)


def rows_in(path):
    """The rows of one file."""
    import pyarrow.parquet as files

    return files.ParquetFile(path).read().to_pylist()


def readings(rows):
    """The rows of each reading."""
    found = {}
    for row in rows:
        found.setdefault(row["time"], []).append(row)
    return list(found.values())


def mapped(rows):
    """What is mapped after these rows: the last one of each mapping, but those that are gone."""
    last = {(row["pid"], row["start_time"], row["start"]): row for row in rows}
    return {key: row for key, row in last.items() if row["size"]}
