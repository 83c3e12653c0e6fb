"""The ``fastpagemap`` command, as it is before fastpagemap, and with it numpy, is imported."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

THREADS = "OPENBLAS_NUM_THREADS"


def main() -> int:
    """Run the command line; see ``fastpagemap.cli.main``.

    numpy's OpenBLAS starts a thread for each processor when it is imported. Here no matrix is ever
    multiplied, and the threads would cost a third of what a report does.
    """
    given = os.environ.get(THREADS)
    os.environ.setdefault(THREADS, "1")
    # What is being imported may ignore a KeyboardInterrupt, or make another error of it, as numpy
    # does. Nothing is begun yet: Ctrl-C ends it at once, until run() looks out for it.
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    if sys.argv[1:] == ["--version"]:
        _tell_version()
    from fastpagemap.cli import INTERRUPTED
    from fastpagemap.cli import main as run

    if given is None:  # the programs that a command runs have as many as ever
        del os.environ[THREADS]
    try:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = run()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # run() has said what there is to say
                if stream is not None:
                    stream.flush()
    except KeyboardInterrupt:  # in the moments when run() does not look out for it
        code = INTERRUPTED
    # All is written and closed. To take numpy down, piece by piece, would cost 20 ms more.
    os._exit(code)


def _tell_version() -> None:
    """Print the version and end, if it can be printed: scripts ask for it, and need no numpy."""
    from importlib.metadata import version

    if sys.stdout is not None:
        with contextlib.suppress(OSError):  # run() says what it is
            os.write(
                sys.stdout.fileno(), f"fastpagemap, version {version('fastpagemap')}\n".encode()
            )
            os._exit(0)
