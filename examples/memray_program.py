"""Run a program under memray, and stand still at its end, while all that it holds is alive.

This is the half of memray_residency.py that lives in the program's own process. It imports nothing
but memray, so that what the program imports is the program's own.
"""

import ctypes
import os
import runpy
import signal
import sys
import traceback
from typing import Any

import memray

PR_SET_PDEATHSIG = 1


def main(capture: str, options: list[str], program: str, arguments: list[str]) -> None:
    """Record the program into the file `capture`, and exit with 1 where it raised."""
    # a program that stands still would do so for ever if whoever is to wake it were killed
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if "module" in options:
        sys.argv = ["", *arguments]
        sys.path[0] = os.getcwd()
    else:
        sys.argv = [program, *arguments]
        sys.path[0] = os.path.dirname(os.path.realpath(program))
    destination = memray.FileDestination(capture, compress_on_exit=False)
    small = "python-allocators" in options
    with memray.Tracker(destination=destination, trace_python_allocators=small):
        sys.exit(run(program, options))


def run(program: str, options: list[str]) -> int:
    """Run the program as Python would; stand still, where that is wanted, when it has ended."""
    pid, started = os.getpid(), True
    kept: Any = None  # what the program holds at its end: globals or, in an exception, its frames
    try:
        if "module" in options:
            kept = runpy.run_module(program, run_name="__main__", alter_sys=True)
        else:
            kept = runpy.run_path(program, run_name="__main__")
    except Exception as error:
        kept, frames = error, error.__traceback__
        while frames and is_ours(frames.tb_frame.f_code.co_filename):
            frames = frames.tb_next
        traceback.print_exception(type(error), error, frames)  # the program's frames, not ours
        started = frames is not None
    finally:
        # a child that the program forked ends here as well, and nobody would wake it
        if "exit" in options and started and os.getpid() == pid:
            sys.stdout.flush()
            os.kill(pid, signal.SIGSTOP)
    return isinstance(kept, Exception)


def is_ours(file: str) -> bool:
    """Whether a frame belongs to what runs the program."""
    return file == __file__ or file == "<frozen runpy>"


if __name__ == "__main__":
    _, capture, options, program, *arguments = sys.argv
    main(capture, options.split(","), program, arguments)
