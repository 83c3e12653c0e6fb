"""Which machine this is, and since when it runs: files of several hosts are told apart by it."""

import os

from .._kernel.descriptor import open_file
from .._kernel.failures import tells_of_file
from .._kernel.lines import read_all

__all__ = ["boot_id", "host_name"]

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def host_name() -> str:
    """Return the name of this host, as hostname(1) prints it; it may hold any bytes."""
    return os.uname().nodename


def boot_id() -> str | None:
    """Return what is new at each boot, random(4); None where a sandbox does not show it.

    Pids and start times are of one boot: with it they name a process for ever.
    """
    try:
        file = open_file(_BOOT_ID, os.O_RDONLY)
        return read_all(file.fd, _BOOT_ID).decode("ascii").strip()
    except OSError as error:
        if not tells_of_file(error):
            raise
        return None
