"""_shim.c, compiled and preloaded; and a rule for it, in a with statement."""

import contextlib
import ctypes
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_SOURCE = Path(__file__).with_name("_shim.c")
_NAME = "FASTPAGEMAP_SHIM"
_FOREVER = 1 << 40


def preloaded(**environment):
    """Start this program anew with the shim before the C library; return once it is there."""
    if _NAME in os.environ:
        return
    with tempfile.TemporaryDirectory(prefix="fastpagemap-") as directory:
        library = os.path.join(directory, "shim.so")
        compiler = [*os.environ.get("CC", "cc").split(), "-shared", "-fPIC", "-O1", "-w"]
        # compiled without a sanitizer that is preloaded into this process
        clean = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        subprocess.run([*compiler, "-o", library, _SOURCE, "-ldl"], check=True, env=clean)
        before = [each for each in [os.environ.get("LD_PRELOAD")] if each]
        environment |= {_NAME: library, "LD_PRELOAD": " ".join([*before, library])}
        command = [sys.executable, *sys.argv]
        sys.exit(subprocess.call(command, env=os.environ | environment))


class Shim:
    """What the shim counts, and its one rule."""

    def __init__(self):
        self._library = ctypes.PyDLL(os.environ[_NAME])
        # nothing this process starts is to have it
        os.environ.pop("LD_PRELOAD", None)
        self._library.shim_name.restype = ctypes.c_char_p
        self._library.shim_calls.restype = self._library.shim_hits.restype = ctypes.c_long
        self._library.shim_arm.argtypes = [ctypes.c_int, ctypes.c_int] + [ctypes.c_long] * 2
        self.kinds = []
        while name := self._library.shim_name(len(self.kinds)):
            self.kinds.append(name.decode())

    @contextlib.contextmanager
    def rule(self, kind=None, error=0, nth=1, forever=False):
        """Have a call fail with an errno, or do less where that is 0; without a kind, count."""
        number = -1 if kind is None else self.kinds.index(kind)
        self._library.shim_arm(number, error, nth, _FOREVER if forever else 1)
        try:
            yield
        finally:
            self._library.shim_disarm()

    def hits(self):
        """How often the last rule was applied."""
        return self._library.shim_hits()

    def counts(self):
        """How many calls of each kind there were under the last rule, without those of none."""
        found = {name: self._library.shim_calls(i) for i, name in enumerate(self.kinds)}
        return {name: count for name, count in found.items() if count}
