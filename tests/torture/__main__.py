"""Run every program of this directory, each for its share of the time: make torture SECONDS=600.

With a seed that is given, rounds are counted and not timed: as many as fit on a usual machine, the
same ones on every machine.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
#: What a program may take beyond its time: the last round, and to put the machine back.
GRACE = 180

#: Programs that get more time than the others.
SHARES = {"differential": 3}

#: Rounds in a second, on a machine of which others use one of two processors. Of programs that are
#: not here, the same seed does not make the same round: they depend on the order in which threads
#: run.
PACES = {
    "differential": 4,
    "faults": 45,
    "fuzz_arguments": 30,
    "fuzz_commands": 30,
    "fuzz_snapshots": 42,
    "fuzz_texts": 30,
    "leaks": 1.2,
    "nomemory": 12,
    "tracker": 60,
}
#: What counted rounds may take. Each has a limit of its own: this is for what loops in the kernel.
COUNTED_LIMIT = 1200


def programs():
    """The names of all there are; a file that begins with an underscore is none."""
    return sorted(path.stem for path in HERE.glob("[!_]*.py"))


def run(name, seconds, seed, counted):
    """Run one program, for a time or so many rounds; return whether it found nothing."""
    command = [sys.executable, HERE / f"{name}.py", "--seconds", str(seconds), "--seed", str(seed)]
    limit = seconds + GRACE
    if counted and name in PACES:
        command += ["--rounds", str(max(1, round(seconds * PACES[name])))]
        limit = COUNTED_LIMIT
    print(f"== {name}, {seconds:.0f} s", flush=True)
    # Aborted, it prints where it is; what loops in the kernel prints nothing.
    process = subprocess.Popen(command, env=os.environ | {"PYTHONFAULTHANDLER": "1"})
    try:
        return process.wait(limit) == 0
    except subprocess.TimeoutExpired:
        print(f"FIND {name} --seed {seed}: it never ended", flush=True)
        process.send_signal(signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        return False
    finally:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it waits in the kernel for ever
            process.wait(10)


def main():
    """Return the exit status: 1 if a program found something."""
    parser = argparse.ArgumentParser(prog="tests/torture")
    parser.add_argument("--seconds", type=float, default=600, help="for all of them together")
    parser.add_argument("--seed", type=int, help="without one, a new one is drawn")
    parser.add_argument("--without", nargs="*", default=[], metavar="NAME", help="all but these")
    parser.add_argument("names", nargs="*", help=", ".join(programs()))
    given = parser.parse_args()
    names = [name for name in given.names or programs() if name not in given.without]
    counted = given.seed is not None
    seed = given.seed if counted else int(time.time())
    shares = {name: SHARES.get(name, 1) for name in names}
    each = given.seconds / sum(shares.values())
    found = [name for name in names if not run(name, each * shares[name], seed, counted)]
    if found:
        print(f"finds: {' '.join(found)} (seed {seed})", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
