"""The processes of this machine, as /proc lists them."""

from __future__ import annotations

import os


def processes() -> list[int]:
    """Return the pids of all processes, in order."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())


def name_of(pid: int) -> str:
    """Return the name of a process as ps shows it; empty where it cannot be read."""
    try:
        fd = os.open(f"/proc/{pid}/comm", os.O_RDONLY)
    except OSError:
        return ""
    try:
        return os.fsdecode(os.read(fd, 256)).removesuffix("\n")
    except OSError:
        return ""
    finally:
        os.close(fd)


def has_memory(pid: int) -> bool:
    """Return whether a process is neither a kernel thread nor a zombie."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return file.read(2) != b"0 "
    except OSError:
        return False
