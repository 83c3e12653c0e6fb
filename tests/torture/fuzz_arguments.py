"""Arguments of every public call that nobody should give: refused in words, and nothing is harmed.

Beside each array that is to be filled lie bytes that must stay as they are. A child process tries
a few, so that a crash is a find and not the end.
"""

import contextlib
import operator
import resource
import sys
import time

import _torture  # isort: skip
import numpy as np

import fastpagemap as fpm
import memory
import runas
from fastpagemap import Mapping
from linux import PAGE

#: Calls in one child, and the seconds of processor time that one of them may take.
BATCH = 100
LONGEST = 20
#: Addresses that one may use: who asks for a mask of 20 GiB on a machine that has them gets it.
MAX_BYTES = 4 << 30
EXPECTED = (ValueError, TypeError, OverflowError, OSError, MemoryError, fpm.SnapshotError)
NUMBERS = [
    *(0, 1, -1, PAGE, -PAGE, 3 * PAGE, PAGE // 2, 2**31, 2**32, 2**47, 2**47 - PAGE, 2**48, 2**56),
    *(2**63 - 1, 2**63, 2**64 - PAGE, 2**64 - 1, 2**64, 2**65, -(2**63), -(2**64), 10**40, True),
    *(0.0, 4096.0, float("nan"), float("inf"), -0.0, 1e300, 1j),
]
OTHERS = [None, "", "0", "4096", b"", b"\0" * 8, [], (), {}, object(), [1, 2], range(3), print, int]
DTYPES = [
    "?",
    "u1",
    "i1",
    "u2",
    "<u4",
    ">u4",
    "<u8",
    ">u8",
    "i8",
    "f2",
    "f4",
    "f8",
    "c16",
    "U4",
    "S8",
    "O",
    "M8[s]",
]
DTYPES += [fpm.ENTRY_DTYPE, fpm.PAGE_DTYPE, fpm.REGION_DTYPE, fpm.RESIDENCY_DTYPE]


class Odd:
    """Fails, lies or changes its mind wherever a number, an array or a pid is asked for."""

    def __init__(self, chance):
        self.answers = [chance.choice([*NUMBERS, *OTHERS]) for _ in range(5)]

    def _answer(self, *_, **__):
        answer = self.answers.pop() if self.answers else 1 / 0
        if answer is None:
            raise RuntimeError("odd")
        return answer

    __index__ = __int__ = __len__ = __array__ = __iter__ = _answer
    pid = start = end = property(_answer)


def an_array(chance, count):
    """An array of any type, order, number of dimensions and rights."""
    dtype = np.dtype(chance.choice(DTYPES))
    made = np.zeros(chance.choice([count, count, count * 2, count + 1, max(count - 1, 0)]), dtype)
    if dtype.kind != "O" and made.nbytes:
        made.view(np.uint8)[:] = chance.choice([0, 1, 255])
    way = chance.randrange(8)
    if way == 0:
        made = made[::2]
    elif way == 1:
        made = made[::-1]
    elif way == 2:
        made = made.reshape(1, -1)
    elif way == 3:
        made = np.broadcast_to(made[:1], (count,)) if len(made) else made
    elif way == 4:
        made.flags.writeable = False
    elif way == 5 and made.nbytes > 8 and dtype.kind != "O":
        made = np.frombuffer(b"\0" + made.tobytes(), np.uint8)[1:]
    return made


def an_argument(chance, place):
    """Anything; often an address of the memory, or near it."""
    way = chance.random()
    if way < 0.35:
        return place + chance.randint(-2, 40) * PAGE + chance.choice([0, 0, 0, 1, PAGE // 2])
    if way < 0.55:
        return chance.choice(NUMBERS)
    if way < 0.65:
        return chance.choice([np.uint64, np.int64, np.float64])(chance.choice([0, 1, PAGE, place]))
    if way < 0.85:
        return an_array(chance, chance.choice([0, 1, 10, 30]))
    return Odd(chance) if way < 0.92 else chance.choice(OTHERS)


_ARRAYS = {"read": fpm.ENTRY_DTYPE, "mapcounts": np.uint32, "nodes": np.int16}
_MASKS = ("present", "swapped", "shared", "exclusive", "unknown", "zero", "huge", "cached")
METHODS = {
    **dict.fromkeys((*_MASKS, "soft_dirty", "mapcounts", "nodes", "folios"), 2),
    "read": 2,
    "masks": 2,
    "regions": 2,
    "residency": 2,
    "usage": 1,
    "states": 1,
}
FUNCTIONS = {
    "PageMap": 1,
    "decode": 1,
    "span": 1,
    "capabilities": 1,
    "AccessTracker": 2,
    "WriteTracker": 2,
    "Mapping": 7,
    "Group": 1,
    "Group.tree": 1,
    "Group.cgroup": 1,
}
OF_FRAMES = ("flags", "mapcounts", "cgroups", "nodes")
_KEYWORDS = ("out", "mask", "anyof", "inverted", "returns", "fields", "start", "nonsense")


def _function(chance, pm):
    """A random function: its name, itself, and how many arguments it takes."""
    way = chance.random()
    if way < 0.7:
        name = chance.choice(sorted(METHODS))
        return name, getattr(pm, name), METHODS[name]
    if way < 0.8:
        name = chance.choice(OF_FRAMES)
        return f"Frames.{name}", lambda *asked, **named: _of_frames(name, asked, named), 1
    if way < 0.85:
        return "Group.sharers", fpm.Group([pm.pid]).sharers, 3
    name = chance.choice(sorted(FUNCTIONS))
    return name, operator.attrgetter(name)(fpm), FUNCTIONS[name]


def _of_frames(name, asked, named):
    with fpm.Frames() as frames:
        return getattr(frames, name)(*asked, **named)


def calls(chance, pm, place):
    """(what it is, a function without arguments) of one random call."""
    name, function, count = _function(chance, pm)
    count = chance.choice([count] * 8 + [max(count - 1, 0), count + 1])
    arguments = [an_argument(chance, place) for _ in range(count)]
    if name in ("usage", "states"):
        parts = [an_argument(chance, place) for _ in range(3)]
        spans = [Mapping(parts[0], parts[1], "rw-p", 0, 0, 0, ""), parts[2]]
        arguments = [chance.choice([spans, spans[:1], parts, parts[0], None])]
    named = {}
    if chance.random() < 0.4:
        named[chance.choice(_KEYWORDS)] = an_argument(chance, place)
    if chance.random() < 0.3:
        named["out"] = an_array(chance, 10)
        arguments[:2] = [place, place + 10 * PAGE]
    return f"{name}{(*arguments, named)!r}"[:400], lambda: function(*arguments, **named)


class Guarded:
    """An array with bytes before and after it, that show whether somebody wrote beyond its ends."""

    def __init__(self, dtype, count):
        size = np.dtype(dtype).itemsize * count
        self.whole = np.full(size + 128, 0xA5, np.uint8)
        self.inner = self.whole[64 : 64 + size].view(dtype)

    def intact(self):
        """Whether nobody did."""
        return (self.whole[:64] == 0xA5).all() and (self.whole[-64:] == 0xA5).all()


def fill(pm, chance, made):
    """A right call, into an array with guards, over a random part."""
    low, high = sorted((chance.randint(0, made.pages), chance.randint(0, made.pages)))
    name = chance.choice([*_MASKS, *_ARRAYS])
    out = Guarded(_ARRAYS.get(name, bool), high - low)
    getattr(pm, name)(made.at(low), made.at(high), out=out.inner)
    assert out.intact(), f"{name} of {high - low} pages wrote beyond its array"


def try_all(seed, number):
    """In the child: many calls; how many ended in which way."""
    chance, ends = _torture.Chance(seed, number), {}
    if not _torture.SANITIZED:
        resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    with memory.sparse(3000) as made, fpm.PageMap() as pm:
        for _ in range(BATCH):
            what, call = calls(chance, pm, made.start)
            began = time.process_time()
            try:
                call()
                end = "answers"
            except EXPECTED as error:
                end = type(error).__name__
            except (RuntimeError, ZeroDivisionError) as error:
                if type(error) is RuntimeError and str(error) != "odd":
                    raise AssertionError(what) from error
                end = "an exception of the argument's own"
            except AttributeError as error:
                if not what.startswith(("usage", "states")):  # of what is no mapping
                    raise AssertionError(what) from error
                end = "AttributeError"
            except Exception as error:
                raise AssertionError(f"{type(error).__name__}: {what}") from error
            took = time.process_time() - began
            assert took < LONGEST, f"{took:.0f} s: {what}"
            ends[end] = ends.get(end, 0) + 1
            fill(pm, chance, made)
    return ends


def main():
    """Return the exit status."""
    given = _torture.arguments()

    def one_round(chance, counts):
        for end, count in runas.in_child(try_all, given.seed, chance.number).items():
            counts[end] += count

    return _torture.run(one_round, given)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
