"""What /proc/PID/stat says of a process: counters that cost no look at its memory, and no lock."""

from __future__ import annotations

import os
from typing import NamedTuple

from .._kernel.descriptor import open_file
from .._kernel.lines import read_all
from .namespaces import directory_of

__all__ = ["Stat", "parse", "read"]

# PF_KTHREAD of linux/sched.h
_KERNEL_THREAD = 0x00200000


class Stat(NamedTuple):
    """Fields of /proc/PID/stat, as proc_pid_stat(5) names and counts them."""

    name: str
    parent: int
    flags: int
    #: Page faults so far, without and with a wait for a disk.
    minor: int
    major: int
    threads: int
    #: When it was started, in clock ticks since boot: tells apart two processes with one pid.
    started: int
    #: Bytes of its address space; 0 without memory: a zombie, or its main thread has ended.
    size: int
    #: Pages that are present, roughly: the kernel adds them up now and then.
    resident: int

    @property
    def is_kernel_thread(self) -> bool:
        """Whether it is part of the kernel."""
        return bool(self.flags & _KERNEL_THREAD)


def parse(text: bytes) -> Stat:
    """Return the fields in the content of /proc/PID/stat.

    The name may hold anything, also blanks and brackets, so that what follows begins after the last
    bracket.
    """
    name, _, rest = text.partition(b"(")[2].rpartition(b")")
    fields = rest.split()
    if len(fields) < 22:
        raise ValueError(f"{text!r} is no content of /proc/PID/stat")
    chosen = (fields[number - 3] for number in (4, 9, 10, 12, 20, 22, 23, 24))
    return Stat(os.fsdecode(name), *map(int, chosen))


def read(pid: int) -> Stat | None:
    """Return what /proc tells of a process; None if it has ended, or is hidden (hidepid)."""
    try:
        file = open_file(f"{directory_of(pid)}/stat", os.O_RDONLY)
        return parse(read_all(file.fd, "stat"))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
