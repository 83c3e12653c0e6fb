"""A process that uses known memory over and over: python busy.py PAGES READ WRITTEN

Of PAGES pages, all written once, it reads the first READ, and writes the next WRITTEN, until it is
killed. It prints an empty line once that goes on.
"""

import mmap
import sys
import time

from linux import PAGE
from memory import touched


def main(pages, read, written):
    """Never return."""
    made = touched(pages)
    print(flush=True)
    while True:
        made.read(0, read)
        made.write(read, read + written)
        # An emulated processor remembers where a page is, and then notes no further access to it.
        # When much is unmapped it forgets.
        with mmap.mmap(-1, 64 * PAGE) as more:
            more[::PAGE] = bytes(64)
        time.sleep(0.01)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
