"""Run every program of this directory, each for its share of the time: make torture SECONDS=600."""

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


def programs():
    """The names of all there are; a file that begins with an underscore is none."""
    return sorted(path.stem for path in HERE.glob("[!_]*.py"))


def run(name, seconds, seed):
    """Run one program; return whether it found nothing."""
    command = [sys.executable, HERE / f"{name}.py", "--seconds", str(seconds), "--seed", str(seed)]
    print(f"== {name}, {seconds:.0f} s", flush=True)
    # Aborted, it prints where it is; what loops in the kernel prints nothing.
    process = subprocess.Popen(command, env=os.environ | {"PYTHONFAULTHANDLER": "1"})
    try:
        return process.wait(seconds + GRACE) == 0
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
    parser.add_argument("--seed", type=int, default=int(time.time()))
    names = programs()
    parser.add_argument("names", nargs="*", default=names, help=", ".join(names))
    given = parser.parse_args()
    shares = {name: SHARES.get(name, 1) for name in given.names}
    each = given.seconds / sum(shares.values())
    found = [name for name in given.names if not run(name, each * shares[name], given.seed)]
    if found:
        print(f"finds: {' '.join(found)} (seed {given.seed})", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
