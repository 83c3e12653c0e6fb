"""Note where a program's objects are when it first forks: ``fastpagemap forks SCRIPT``.

fork() copies no memory: an object of the parent has the same address in each child. So whoever
looks from outside can tell of each object what a child shares of it, and the child is left alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import importlib
import json
import operator
import os
import sys
import sysconfig
import types
from array import array
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["MAX_OBJECTS", "note_at_fork"]

#: Objects that are noted; what a program has beyond is left out.
MAX_OBJECTS = 10_000_000
# What does not belong to the name that refers to it.
_OF_ALL = (types.ModuleType, type, types.FunctionType, types.BuiltinFunctionType, types.FrameType)
# There is one of each, whoever names it.
_SINGLE = (type(None), bool, type(...), type(NotImplemented))
# Where in an object CPython (3.11 and later) has the address of what it keeps elsewhere.
_BUFFERS: dict[type, int] = {
    list: 24, dict: 32, set: 40, frozenset: 40, bytearray: 32, array: 24,
}  # fmt: skip
# All that their __sizeof__ counts is in one piece. Others may count memory that lies elsewhere.
_IN_ONE_PIECE = (str, int)
# All with which Python code forks, and the modules that have them.
_FORKING = ("fork", "forkpty", "fork_exec", "_fork_exec")
_FORKING_MODULES = ("posix", "os", "_posixsubprocess", "subprocess")
_FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def note_at_fork(path: str, starter: str) -> None:
    """Have the first fork of this process write the places of its objects to a file.

    Python ignores what is raised in a hook of `os.register_at_fork`: Ctrl-C would be lost there,
    and the SystemExit of a handler, too. So the functions that fork are replaced by ones that note
    the objects first. The hook is for libraries in C, which fork by themselves.
    """
    pid = os.getpid()

    def note() -> None:
        if os.getpid() == pid:
            _try_to_write(path, starter)
        noting.clear()

    noting = [note]
    # once the list is empty this runs no code in Python, and so no signal's handler either
    os.register_at_fork(before=functools.partial(next, map(operator.call, noting), None))
    importlib.import_module("_posixsubprocess")  # before subprocess takes its function from there
    replaced: dict[Any, Any] = {}
    for module in filter(sys.modules.__contains__, _FORKING_MODULES):
        names = vars(sys.modules[module])
        for name in _FORKING:
            if forks := names.get(name):
                names[name] = replaced.setdefault(forks, _noting_first(forks, noting))


def _noting_first(
    forks: Callable[..., Any], noting: list[Callable[[], None]]
) -> Callable[..., Any]:
    @functools.wraps(forks)
    def noted(*arguments: Any) -> Any:
        # subprocess has hooks called only where it gives a preexec_fn: all else is not callable
        if not arguments or any(map(callable, arguments)):
            for note in noting:
                note()
        return forks(*arguments)

    return noted


def _try_to_write(path: str, starter: str) -> None:
    try:
        _write(path, _Places(_named(starter)))
    except Exception as error:
        if _of_handler(error):
            raise
        with contextlib.suppress(OSError):
            text = f"fastpagemap: the program's objects cannot be noted: {error!r}\n"
            os.write(2, text.encode(errors="backslashreplace"))


def _of_handler(error: Exception) -> bool:
    """Whether a signal's handler raised it: one is called with the frame that it interrupts."""
    trace = error.__traceback__
    while trace:
        frame, trace = trace.tb_frame, trace.tb_next
        if frame.f_code.co_filename == __file__:
            continue
        for value in [*frame.f_locals.values()]:
            given = value if type(value) is tuple else (value,)
            if any(each is frame.f_back for each in given):
                return True
    return False


def _named(starter: str) -> Iterator[tuple[str, Any]]:
    """Yield the objects that a program names: its globals, then the locals of its functions."""
    found = sys.modules["__main__"].__dict__
    for name, value in [*found.items()]:
        if not name.startswith("__"):
            yield name, value
    frame = sys._getframe()
    libraries = os.path.dirname(os.__file__)
    while frame := frame.f_back:  # type: ignore[assignment]
        code = frame.f_code
        ours = code.co_filename in (starter, __file__) or code.co_filename.startswith(
            ("<frozen", libraries)
        )
        if not ours and code.co_name != "<module>":
            for name, value in [*frame.f_locals.items()]:
                yield f"{code.co_name}.{name}", value


class _Places:
    """Where objects are, and how large, by the name that leads to them first."""

    def __init__(self, named: Iterator[tuple[str, Any]]) -> None:
        self.addresses, self.sizes = array("Q"), array("Q")
        self.counts: dict[str, int] = {}
        self._seen: set[int] = set()
        for name, value in named:
            before = len(self.sizes)
            self._walk(value)
            if len(self.sizes) > before:
                self.counts[name] = self.counts.get(name, 0) + len(self.sizes) - before

    def _walk(self, value: Any) -> None:
        waiting = [value]
        while waiting and len(self._seen) < MAX_OBJECTS:
            each = waiting.pop()
            # an object's own __class__ may be a function of the program's, as of a lazy one
            if id(each) in self._seen or issubclass(type(each), _OF_ALL + _SINGLE):
                continue
            self._seen.add(id(each))
            self._place(each)
            # of a container its elements, of an object its attributes
            waiting += gc.get_referents(each)

    def _place(self, each: Any) -> None:
        kind: Any = type(each)
        try:
            inner = kind.__sizeof__(each)
            head = sys.getsizeof(each) - inner
            own = inner if issubclass(kind, _IN_ONE_PIECE) else object.__sizeof__(each)
            # asked of the type first: __getattr__ may be a function of the program's, too
            array_like = hasattr(kind, "__array_interface__")
            memory = each.__array_interface__ if array_like else None
        except Exception as error:  # an object of a class that does it otherwise
            if _of_handler(error):
                raise
            return
        self._add(id(each) - head, head + own)
        if memory and isinstance(memory.get("data"), tuple):
            if getattr(each, "base", None) is None:  # a view has none of its own
                self._add(memory["data"][0], int(getattr(each, "nbytes", 0)))
            return
        base = next((each for each in kind.__mro__ if each in _BUFFERS), None)
        if base and not _FREE_THREADED:
            buffer = ctypes.c_size_t.from_address(id(each) + _BUFFERS[base]).value
            self._add(buffer, base.__sizeof__(each) - own)

    def _add(self, address: int, size: int) -> None:
        if address and size > 0:
            self.addresses.append(address)
            self.sizes.append(size)


def _write(path: str, places: _Places) -> None:
    with open(f"{path}.part", "wb") as file:
        file.write(json.dumps(places.counts).encode() + b"\n")
        places.addresses.tofile(file)
        places.sizes.tofile(file)
    os.rename(f"{path}.part", path)
