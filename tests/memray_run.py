"""`fastpagemap run`, run to its end; and programs that memray records by itself."""

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

from commandline import COMMAND
from needs import need

TESTS = Path(__file__).resolve().parent
SHOP = TESTS.parent / "examples" / "shop.py"
MIB = 1 << 20

ENVIRONMENT = os.environ | {
    "NUMPY_MADVISE_HUGEPAGE": "0",  # a touched byte is to cost a page, not a huge page
    "PYTHONPATH": os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")])),
    "PYTHONDONTWRITEBYTECODE": "1",
}

# Memray writes this where the interpreter is linked to fixed addresses, as Debian's is.
MEMRAYS_OWN = re.compile(
    r"^Memray WARNING: Correcting symbol for \w+ from 0x[0-9a-f]+ to 0x[0-9a-f]+\n", re.MULTILINE
)


def run(*arguments, **options):
    """Run the command to its end; in `stderr` is what it says, without what memray itself says."""
    need(importlib.util.find_spec("memray"), "memray")
    done = subprocess.run(
        [*COMMAND, "run", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        env=ENVIRONMENT | {"PYTHONIOENCODING": "utf-8"},
        **options,
    )
    done.stderr = MEMRAYS_OWN.sub("", done.stderr)
    return done


@contextlib.contextmanager
def recorded(capture, program, *options):
    """Have memray record a program; from the line that it prints to the end of the block."""
    need(importlib.util.find_spec("memray"), "memray")
    process = subprocess.Popen(
        [sys.executable, "-m", "memray", "run", "-q", *options, "-o", capture, program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    with process:
        try:
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


def row_of(done, source):
    """The sizes and the place of the line with this source, of a table that was printed."""
    line = next(line for line in done.stdout.splitlines() if source in line)
    cells = line.split(maxsplit=4)
    return [*cells[:4], cells[4].partition("  ")[0]]
