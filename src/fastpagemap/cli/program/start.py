"""Run a Python program as Python would, and have it looked at: memray, its writes, its objects.

This is the half that lives in the program's own process; `fastpagemap.cli.program` starts it, by
the path of this file. It imports only what is asked for, so that under memray what the program
imports is the program's own.
"""

import atexit
import contextlib
import ctypes
import json
import os
import runpy
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

PR_SET_PDEATHSIG = 1
# What Python imports before any program, or needs to run one. Names in the program's
# directory do not matter there.
_FIRST = frozenset(sys.builtin_module_names) | {name.partition(".")[0] for name in sys.modules}
_kept: list[Any] = []


def main(options: dict[str, Any], program: str, arguments: list[str]) -> None:
    """Run the program, and exit with 1 where it raised."""
    # a program that stands still would do so for ever if whoever is to wake it were killed
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != options["parent"]:
        sys.exit(1)
    begin = _looking(options, program)
    if options.get("module"):
        sys.argv = ["", *arguments]
        sys.path[0] = os.getcwd()
    else:
        sys.argv = [program, *arguments]
        sys.path[0] = os.path.dirname(os.path.realpath(program))
    _forget_shadowed(sys.path[0])
    begin()
    sys.exit(run(program, options))


def _looking(options: dict[str, Any], program: str) -> Callable[[], None]:
    """Import what looks at the program; return what begins that.

    This comes before the program's directory is searched: it may have a file inspect.py, say.
    """
    if "capture" in options:
        tracker = _tracker(options)
        return lambda: _under_memray(tracker, options, program)
    if "objects" in options:
        objects = _beside("objects")
        return lambda: objects.note_at_fork(options["objects"], __file__)
    from fastpagemap.cli.program.own_writes import telling

    def begin() -> None:
        # once its threads have ended as well
        atexit.register(telling(options["writes"], options["interval"]))

    return begin


def _forget_shadowed(directory: str) -> None:
    """Have the program import its own modules, where they have names of Python's."""
    for name in list(sys.modules):
        first = name.partition(".")[0]
        if first in _FIRST or first not in sys.stdlib_module_names:
            continue
        places = f"{first}.py", f"{first}/__init__.py"
        if any(os.path.isfile(os.path.join(directory, place)) for place in places):
            del sys.modules[name]


def _beside(name: str) -> Any:
    """Return a module of this folder: by its package's name, numpy would come with it."""
    import importlib.util

    path = os.path.join(os.path.dirname(__file__), f"{name}.py")
    spec: Any = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _tracker(options: dict[str, Any]) -> Any:
    """Return what records the program, with all that memray imports, also where it is made."""
    import memray

    destination = memray.FileDestination(options["capture"], compress_on_exit=False)
    small = options["python_allocators"]
    sys.argv = []  # memray notes the words in its file, where they have to be UTF-8
    with _said():
        return memray.Tracker(destination=destination, trace_python_allocators=small)


def _under_memray(tracker: Any, options: dict[str, Any], program: str) -> None:
    with contextlib.ExitStack() as recorded:
        with _said():
            recorded.enter_context(tracker)
        sys.exit(run(program, options, _stand_still if options["stop_at_exit"] else None))


@contextlib.contextmanager
def _said() -> Iterator[None]:
    """Say in one line why memray cannot record, and end."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        sys.exit(f"fastpagemap: memray cannot record the program: {error}")


def _stand_still() -> None:
    with contextlib.suppress(Exception):  # the program may have closed or replaced it
        sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGSTOP)


def run(program: str, options: dict[str, Any], at_end: Callable[[], None] | None = None) -> int:
    """Run the program as Python would; call `at_end` when it has ended.

    All that it holds at its end stays there: its globals or, in an exception, its frames. A program
    that could not be started has no end.
    """
    pid, started = os.getpid(), True
    kept: Any = None
    try:
        if options.get("module"):
            kept = runpy.run_module(program, run_name="__main__", alter_sys=True)
        else:
            kept = runpy.run_path(program, run_name="__main__")
    except SystemExit as error:
        kept = error
        raise
    except (Exception, KeyboardInterrupt) as error:
        kept, frames = error, error.__traceback__
        while frames and is_ours(frames.tb_frame.f_code.co_filename):
            frames = frames.tb_next
        traceback.print_exception(type(error), error, frames)  # the program's frames, not ours
        started = frames is not None
    finally:
        _kept.append(kept)
        # a child that the program forked ends here as well, and nobody looks at it
        if at_end and started and os.getpid() == pid:
            at_end()
    if isinstance(kept, KeyboardInterrupt):
        return 128 + signal.SIGINT
    return isinstance(kept, Exception)


def is_ours(file: str) -> bool:
    """Whether a frame belongs to what runs the program."""
    return file == __file__ or file == "<frozen runpy>"


if __name__ == "__main__":
    _, _options, _program, *_arguments = sys.argv
    main(json.loads(_options), _program, _arguments)
