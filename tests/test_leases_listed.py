"""The list of locks is read in pieces, and changes meanwhile (root)."""

import os
import subprocess
import sys
import tempfile

import pytest

import backed
import locks
from fastpagemap.process.leases import Leases
from sharer import Sharer

pytestmark = pytest.mark.root

LEASES, READINGS = 400, 100
#: Takes locks and releases them, without end.
LOCKING = """
import fcntl, sys
with open(sys.argv[1], "wb") as file:
    while True:
        for at in range(300):
            fcntl.lockf(file, fcntl.LOCK_EX, 1, 2 * at)
            print(flush=True) if at == 0 else None
        fcntl.lockf(file, fcntl.LOCK_UN)
"""


def test_no_lease_is_missed_while_locks_are_released():
    with tempfile.TemporaryDirectory(dir=backed.disk_directory()) as directory:
        paths = [os.path.join(directory, str(number)) for number in range(LEASES)]

        def hold():
            return [
                os.stat(locks.lease(os.open(path, os.O_RDWR | os.O_CREAT))).st_ino for path in paths
            ]

        command = [sys.executable, "-c", LOCKING, os.path.join(directory, "locked")]
        with (
            Sharer({"hold": hold}) as other,
            subprocess.Popen(command, stdout=subprocess.PIPE) as locking,
        ):
            leased = set(other.ask("hold"))
            assert len(leased) == LEASES
            locking.stdout.readline()
            for _ in range(READINGS):
                files = Leases()._files
                assert leased <= {inode for _, inode in files}
            locking.kill()
            locking.stdout.close()
