"""What the programs here share: arguments, rounds, and how a find is told.

A round is a function of a random.Random made from the seed and the round's number, so that these
two numbers bring it back. Importing this makes the modules of tests/ importable.
"""

import argparse
import os
import random
import re
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS))

#: Finds that are being mended: program to (a pattern of what was found, what it is).
KNOWN: dict[str, list[tuple[str, str]]] = {}
#: Whether AddressSanitizer is here, which reserves 20 TiB: nobody can look at all of this process.
SANITIZED = "asan" in os.environ.get("LD_PRELOAD", "")
#: A round that takes longer hangs.
LIMIT = 120
_MOST_FINDS = 50


class Hang(BaseException):
    """A round took too long; no handler of ordinary exceptions may catch it."""


def _hang(*_):
    raise Hang(f"a round took more than {LIMIT} s")


def arguments(parser=None):
    """Parse the arguments that every program takes."""
    parser = parser or argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--round", type=int, help="this round alone")
    parser.add_argument("--rounds", type=int, help="so many, however long they take")
    return parser.parse_args()


class Chance(random.Random):
    """The random numbers of one round, and its number."""

    def __new__(cls, seed, number):
        """Python's own random.Random has its seed as the only argument."""
        return super().__new__(cls, f"{seed}:{number}")

    def __init__(self, seed, number):
        super().__init__(f"{seed}:{number}")
        self.number = number


def run(one_round, given=None):
    """Call one_round(chance, counts) until time is up, or as often as was asked for.

    Return the exit status: 1 after a find.
    """
    given = given or arguments()
    name = Path(sys.argv[0]).stem
    counts, finds = Counter(), Counter()
    signal.signal(signal.SIGALRM, _hang)
    began, number = time.monotonic(), given.round or 0
    while True:
        problem = _attempt(one_round, Chance(given.seed, number), counts)
        counts["rounds"] += 1
        if problem and not _is_known(name, problem, counts):
            finds[_line_of(problem)] += 1
            print(f"FIND {name} --seed {given.seed} --round {number}\n{problem}", flush=True)
        number += 1
        if given.rounds is None:
            done = time.monotonic() - began > given.seconds
        else:
            done = counts["rounds"] >= given.rounds
        if done or given.round is not None or finds.total() >= _MOST_FINDS:
            break
    return told(name, given.seed, counts, finds, time.monotonic() - began)


def told(name, seed, counts, finds, seconds):
    """Print what was done; return the exit status."""
    done = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{name}: seed {seed}, {seconds:.0f} s, {most} MiB at most: {done}")
    for what, count in finds.items():
        print(f"{name}: {count} times: {what}")
    return 1 if finds else 0


def _attempt(one_round, chance, counts):
    """One round; return the traceback of what went wrong, or None."""
    signal.alarm(LIMIT)
    try:
        one_round(chance, counts)
    except (Exception, Hang):
        return traceback.format_exc()
    finally:
        signal.alarm(0)
    return None


def _line_of(problem):
    """The exception's own line: notes and a child's traceback stand elsewhere."""
    lines = [
        line for line in problem.splitlines() if re.match(r"[\w.]+(Error|Hang|Exception)", line)
    ]
    return re.sub(r"\d+|0x[0-9a-f]+", "N", lines[-1] if lines else problem.splitlines()[-1])


def _is_known(name, problem, counts):
    for pattern, what in KNOWN.get(name, []):
        if re.search(pattern, problem):
            counts[f"known ({what})"] += 1
            return True
    return False
