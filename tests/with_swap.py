"""Run a command while there is swap that others use (root): python tests/with_swap.py COMMAND...

What an ordinary user can learn of memory depends on whether any swap is in use at all.
"""

import contextlib
import subprocess
import sys

import memory
import sharing
import swap

SIZE = 256 << 20
PAGES = 1000


def main(command):
    """Return the exit code of the command."""
    with contextlib.ExitStack() as stack:
        # behind whatever a test makes, and any that makes none may borrow it
        stack.enter_context(swap.zram_swap(SIZE, priority=1))
        for make in (memory.touched, sharing.KINDS["shared_anonymous"]):
            made = stack.enter_context(make(PAGES))
            made.write()
            swap.pageout(made.start, made.end)
        return subprocess.call(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
