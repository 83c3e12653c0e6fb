"""A recording of a process on another kernel, for tests that read files of several real hosts.

`make test-kernels KERNELS=6.1 RUN=tests/kernels/record.py` records it in the virtual machine, and
prints it into the log; `python tests/kernels/record.py LOG DIRECTORY` puts it where the tests look
for it (tests/hosts).
"""

import base64
import functools
import os
import re
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
#: Pages that the process swaps out, of private and of shared memory.
SWAPPED, SHARED = 2000, 700


def main():
    """Record a victim, half of whose memory is swapped out meanwhile; print the files."""
    sys.path.insert(0, str(TESTS))
    import swap
    from recordings import files_in, record
    from victim import Victim

    host = f"linux-{'.'.join(os.uname().release.split('.')[:2])}"
    with tempfile.TemporaryDirectory() as directory, swap.any_swap(64 << 20), Victim() as victim:
        private, shared = victim.make("touched", SWAPPED), victim.make("memfd", SHARED)
        shared.do("write")
        steps = [functools.partial(victim.pageout, span) for span in (private, shared)]
        record(directory, [victim.pid], *steps, host=host)
        sums = rollup(victim.pid)
        for path in files_in(directory):
            content = base64.b64encode(Path(path).read_bytes()).decode()
            print(f"FILE {os.path.relpath(path, directory)} {sums} {content}", flush=True)


def rollup(pid):
    """The kernel's own sum of what the process has in swap, in bytes."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("Swap:"))


def unpack(log, directory):
    """Write the files that a log has in it."""
    for name, swapped, content in re.findall(r"FILE (\S+) (\d+) (\S+)", Path(log).read_text()):
        path = Path(directory, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(content))
        print(f"{path}: {swapped} bytes in swap, as smaps says")


if __name__ == "__main__":
    unpack(*sys.argv[1:]) if sys.argv[1:] else main()
