"""Every public call, by one and by eight threads, on targets that mean harm.

    python tests/torture/hostile.py --seconds 60 --seed 1

Finds are: an exception that is not documented, a call that does not return, a descriptor or memory
that is not given back, an answer that contradicts itself. Each is printed with the seed; the exit
status is then 1. Threads make no two runs the same: a seed brings back the targets, not the moment.
"""

import argparse
import collections
import contextlib
import faulthandler
import gc
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import _hostile_checks as checks  # noqa: E402

import fastpagemap as fpm  # noqa: E402
import linux  # noqa: E402
import swap  # noqa: E402
from needs import Missing  # noqa: E402

#: Seconds after which a call counts as one that never returns.
LIMIT = 60
#: Bytes by which the process may grow between the middle and the end of a phase.
GROWTH = 128 << 20
#: What a call may say of a process that ends, forks, and calls exec at any moment.
DOCUMENTED = (ProcessLookupError, fpm.UnsupportedError, MemoryError)
KINDS = ("churn", "churn", "names", "mounts", "fuse")


class Targets:
    """Some processes that mean harm; each that ends, or is killed, is replaced."""

    def __init__(self, directory, churn, seed, count=4):
        self.directory, self.churn, self.chance = directory, churn, random.Random(seed)
        self.running, self.lock = {}, threading.Lock()
        for index in range(count):
            self.start(index, KINDS[(index + seed) % len(KINDS)])

    def start(self, index, kind=None):
        """Start another target in place of number `index`."""
        kind = kind or self.chance.choice([k for k in KINDS if k != "churn" or self.churn])
        seed = str(self.chance.randrange(1 << 30))
        place = tempfile.mkdtemp(dir=self.directory)
        if kind == "churn" and self.churn:
            command = [self.churn, str(self.chance.randrange(2, 15)), seed]
        else:
            kind = "names" if kind == "churn" else kind
            command = [sys.executable, "-S", str(HERE / "_hostile_targets.py"), kind, seed, place]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.running[index] = kind, process

    def any(self, chance):
        """One of them: its kind, and the process."""
        with self.lock:
            return chance.choice(list(self.running.values()))

    def kill(self, index):
        """End a target and its children."""
        _, process = self.running[index]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def tend(self):
        """Replace what has ended; now and then, kill."""
        with self.lock:
            for index, (_, process) in list(self.running.items()):
                if process.poll() is not None or self.chance.random() < 0.005:
                    self.kill(index)
                    self.start(index)

    def close(self):
        """End all of them."""
        with self.lock:
            for index in list(self.running):
                self.kill(index)


class Auditor:
    """Threads that ask, and what they found."""

    def __init__(self, targets, seed):
        self.targets, self.seed = targets, seed
        self.finds, self.calls = collections.Counter(), collections.Counter()
        self.busy = {}  # thread: what it does, since when
        self.stop = threading.Event()

    def find(self, what, detail=""):
        """Note a find; print it in full the first time."""
        self.finds[what] += 1
        if self.finds[what] == 1:
            print(f"FIND (seed {self.seed}): {what}\n{detail}", flush=True)

    def ask(self, number):
        """Make one call after the other; the body of a thread."""
        chance = random.Random(f"{self.seed} {number}")
        pm = current = kind = None
        names, weights = list(checks.CALLS), list(checks.CALLS.values())
        while not self.stop.is_set():
            call = chance.choices(names, weights)[0]
            try:
                if pm is None or chance.random() < 0.1:
                    kind, process = self.targets.any(chance)
                    self.busy[number] = f"PageMap {kind}", time.monotonic()
                    pm = fpm.PageMap(process.pid)
                    current = pm.mappings()
                self.busy[number] = f"{call.__name__} {kind}", time.monotonic()
                call(pm, chance, current)
            except DOCUMENTED as error:
                if isinstance(error, ProcessLookupError):
                    pm = None
            except BaseException as error:
                name, _ = self.busy[number]
                self.find(
                    f"{name}: {type(error).__name__} {str(error)[:200]}", traceback.format_exc()
                )
                pm = None
            finally:
                self.calls[call.__name__] += 1
                self.busy.pop(number, None)

    def watch(self):
        """See whether a call does not return; if so, end the targets, which may bring it back."""
        now = time.monotonic()
        for number, (name, since) in list(self.busy.items()):
            if now - since > LIMIT * (2 if name.startswith("command") else 1):
                self.find(f"{name}: does not return within {LIMIT} s")
                faulthandler.dump_traceback()
                self.targets.close()
                time.sleep(LIMIT)
                if self.busy.get(number) == (name, since):
                    print("not even when the targets were gone", flush=True)
                    os._exit(1)

    def run(self, threads, seconds):
        """Ask by so many threads for so long."""
        gc.collect()
        before = descriptors()
        self.stop.clear()
        workers = [
            threading.Thread(target=self.ask, args=(f"{threads} {n}",)) for n in range(threads)
        ]
        for worker in workers:
            worker.start()
        end, middle = time.monotonic() + seconds, None
        while time.monotonic() < end:
            time.sleep(0.05)
            self.targets.tend()
            self.watch()
            if middle is None and time.monotonic() > end - seconds / 2:
                middle = resident()
        self.stop.set()
        while any(worker.is_alive() for worker in workers):
            time.sleep(0.05)
            self.watch()
        gc.collect()
        if descriptors() != before:
            self.find("descriptors are left open", f"{descriptors() - before}")
        grown = resident() - (middle or 0)
        if middle and grown > GROWTH:
            self.find("memory is not given back", f"{grown >> 20} MiB")


def descriptors():
    """What is open, with how often."""
    found = collections.Counter()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[os.readlink(f"/proc/self/fd/{name}")] += 1
    return collections.Counter(
        {n: c for n, c in found.items() if not n.startswith("/proc/self/fd")}
    )


def resident():
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * linux.PAGE


def compiled(directory):
    """The C target, or None where there is no compiler."""
    path = os.path.join(directory, "churn")
    command = ["gcc", "-O1", "-o", path, str(HERE / "_hostile_churn.c"), "-lpthread"]
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError):
        print("no C compiler: without the targets written in C")
        return None
    return path


def main():
    """Return the exit status: 1 if something was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="fastpagemap-hostile-")
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        try:
            stack.enter_context(swap.any_swap(256 << 20))
        except Missing as error:
            print(f"without swap: {error}")
        targets = Targets(directory, compiled(directory), given.seed)
        stack.callback(targets.close)
        auditor = Auditor(targets, given.seed)
        for threads in (1, 8):
            auditor.run(threads, given.seconds / 2)
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # noqa: SIM115
    print(f"{sum(auditor.calls.values())} calls: {dict(auditor.calls)}; {' '.join(peak.split())}")
    for what, times in auditor.finds.most_common():
        print(f"{times:6} times: {what}")
    return 1 if auditor.finds else 0


if __name__ == "__main__":
    sys.exit(main())
