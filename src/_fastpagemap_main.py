"""The ``fastpagemap`` command, as it is before fastpagemap, and with it numpy, is imported."""

from __future__ import annotations

import os


def main() -> int:
    """Run the command line; see ``fastpagemap.cli.main``.

    numpy's OpenBLAS starts a thread for each processor when it is imported. Here no matrix is ever
    multiplied, and the threads would cost a third of what a report does.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        from fastpagemap.cli import INTERRUPTED
        from fastpagemap.cli import main as run
    except KeyboardInterrupt:
        return 130
    try:
        return run()
    except KeyboardInterrupt:  # in the moment before run() looks out for it
        return INTERRUPTED
