"""Run a Python program as Python would, and have it looked at: memray, its writes, its objects.

This is the half that lives in the program's own process; `fastpagemap.cli.program` starts it, by
the path of this file. It imports only what is asked for, so that under memray what the program
imports is the program's own.
"""

import ctypes
import json
import os
import runpy
import signal
import sys
import traceback
from typing import Any

PR_SET_PDEATHSIG = 1


def main(options: dict[str, Any], program: str, arguments: list[str]) -> None:
    """Run the program, and exit with 1 where it raised."""
    # a program that stands still would do so for ever if whoever is to wake it were killed
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != options["parent"]:
        sys.exit(1)
    if options.get("module"):
        sys.argv = ["", *arguments]
        sys.path[0] = os.getcwd()
    else:
        sys.argv = [program, *arguments]
        sys.path[0] = os.path.dirname(os.path.realpath(program))
    if "capture" in options:
        _under_memray(options, program)
    if "objects" in options:
        from fastpagemap.cli.program.objects import note_at_fork

        note_at_fork(options["objects"], __file__)
        sys.exit(run(program, options))
    from fastpagemap.cli.program.own_writes import telling

    with telling(options["writes"], options["interval"]):
        code = run(program, options)
    sys.exit(code)


def _under_memray(options: dict[str, Any], program: str) -> None:
    import memray

    destination = memray.FileDestination(options["capture"], compress_on_exit=False)
    small = options["python_allocators"]
    with memray.Tracker(destination=destination, trace_python_allocators=small):
        sys.exit(run(program, options))


def run(program: str, options: dict[str, Any]) -> int:
    """Run the program as Python would; stand still, where that is wanted, when it has ended."""
    pid, started = os.getpid(), True
    kept: Any = None  # what the program holds at its end: globals or, in an exception, its frames
    try:
        if options.get("module"):
            kept = runpy.run_module(program, run_name="__main__", alter_sys=True)
        else:
            kept = runpy.run_path(program, run_name="__main__")
    except (Exception, KeyboardInterrupt) as error:
        kept, frames = error, error.__traceback__
        while frames and is_ours(frames.tb_frame.f_code.co_filename):
            frames = frames.tb_next
        traceback.print_exception(type(error), error, frames)  # the program's frames, not ours
        started = frames is not None
    finally:
        # a child that the program forked ends here as well, and nobody would wake it
        if options.get("stop_at_exit") and started and os.getpid() == pid:
            sys.stdout.flush()
            os.kill(pid, signal.SIGSTOP)
    if isinstance(kept, KeyboardInterrupt):
        return 128 + signal.SIGINT
    return isinstance(kept, Exception)


def is_ours(file: str) -> bool:
    """Whether a frame belongs to what runs the program."""
    return file == __file__ or file == "<frozen runpy>"


if __name__ == "__main__":
    _, _options, _program, *_arguments = sys.argv
    main(json.loads(_options), _program, _arguments)
