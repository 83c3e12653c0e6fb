"""Runs the tests on other kernels, each in a virtual machine: python tests/kernels [KERNEL...]

Debian's kernels, found and fetched by apt, booted by qemu; without arguments all of KERNELS, two at
a time. For amd64 the files inside are those of this machine, read-only, and the Python is that of
this command; for arm64 both are Debian's. As root; what is lacking is installed by apt.

A kernel that cannot be had is MISSING: a failure only if it was asked for by name. Everything that
was fetched, and the log of the last run on each kernel, is in ~/.cache/fastpagemap-kernels.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import arm64
import machine
from debian import CACHE, Archive, Failed
from table import print_tables

# A version, of which the newest is taken, and the flavour where it is not the one of FLAVOUR.
KERNELS = ["5.10", "6.1", "6.12", "6.18", "7", "6.12-arm64-16k"]
FLAVOUR = "cloud-amd64"  # the smallest one; its settings for memory are those of the others
PROJECT = Path(__file__).resolve().parent.parent.parent
LIMIT = 3600  # seconds for one kernel
NICE = 1  # the emulation takes all the processors it can get

# What the machine runs. The ports are the log and the answer; a reset ends the machine.
START = """
exec </dev/null >/dev/test-log 2>&1
chmod 1777 /var/tmp
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/var/tmp TMPDIR=/var/tmp LANG=C.UTF-8
export PYTHONPATH={path} PYTEST_ADDOPTS={options} KERNEL_CONFIG=/var/tmp/config
cd /var/tmp/fastpagemap
{python} {command}
echo b >/proc/sysrq-trigger
"""


def main():
    """Go through the kernels; return the exit status."""
    options = arguments()
    os.nice(NICE)
    answers, ready = {}, {}
    for name in options.kernel or KERNELS:
        answers[name] = None  # in the order in which they were asked for
        try:
            ready[name] = fetch(name)
        except Failed as problem:
            answers[name] = {"missing kernel": str(problem)}
    with ThreadPoolExecutor(options.jobs) as pool:
        runs = {name: pool.submit(test_on, name, *ready[name], options) for name in ready}
    answers |= {name: run.result() for name, run in runs.items()}
    if not options.run:
        print_tables(answers)
    missing = [name for name, answer in answers.items() if "missing kernel" in answer]
    for name in missing:
        print(f"\nMISSING: {name}: {answers[name]['missing kernel']}")
    bad = any(answer.get("failed") for answer in answers.values())
    return int(bad or bool(missing and options.kernel) or len(missing) == len(answers))


def arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="tests/kernels", description=__doc__.splitlines()[0])
    parser.add_argument("kernel", nargs="*", help=f"of {', '.join(KERNELS)}, or another version")
    parser.add_argument(
        "--select",
        choices=("usual", "quick", "whole"),
        default="usual",
        help="which tests: what depends on the kernel, the core of it, or all there are",
    )
    parser.add_argument("--run", help="instead of the tests, a program of the project, as python's")
    parser.add_argument("--jobs", type=int, default=2, help="machines at a time")
    return parser.parse_args()


def fetch(name):
    """Have everything here that has to come from elsewhere; Failed if it cannot be had."""
    version, _, flavour = name.partition("-")
    flavour = flavour or FLAVOUR
    architecture = "arm64" if "arm64" in flavour else "amd64"
    machine.prepare(architecture)
    archive = Archive(CACHE, architecture)
    release, directory = archive.kernel(version, flavour)
    busybox = archive.unpacked("busybox", ["busybox-static"]) / "usr/bin/busybox"
    system = arm64.fetch(archive) if architecture == "arm64" else None
    return machine.Kernel(architecture, release, directory, busybox), system


def test_on(name, kernel, system, options):
    """Run the tests on a kernel; return what inside.py answers, or that there was no answer."""
    log = CACHE / f"{name}.log"
    print(f"{name}: {kernel.release}, log: {log}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fastpagemap-") as scratch:
        work = Path(scratch)
        try:
            fill(work / "content", kernel, system, options)
            machine.boot(kernel, work / "content", log, work, LIMIT)
            if not log.stat().st_size and b"Kernel panic" in (work / "console").read_bytes():
                # Emulated, a kernel may fault in its first seconds: nothing of ours has run.
                print(f"{name}: it panicked before its first program, and boots again", flush=True)
                machine.boot(kernel, work / "content", log, work, LIMIT)
        except Failed as problem:
            print(f"{name}: {problem}", flush=True)
            return {"failed": [str(problem).splitlines()[0]]}
        if options.run:
            print(f"{log.read_text(errors='replace')}", flush=True)
        answer = {"failed": ["it did not come to an end"]}
        with contextlib.suppress(ValueError):
            answer = json.loads((work / "result").read_text())
        answer["seconds"] = round(time.monotonic() - began)
        print(said(name, answer, log, work), flush=True)
    return answer


def said(name, answer, log, work):
    """What is printed when a kernel is done: what failed, or its last words."""
    lines = [f"{name}: {len(answer['failed'])} failed, {answer['seconds']} s"]
    if "outcomes" in answer or not answer["failed"]:
        lines += [f"  failed: {test}" for test in answer["failed"]]
    else:
        for path, count in {log: 5, work / "console": 25, work / "qemu": 5}.items():
            lines += path.read_text(errors="replace").splitlines()[-count:]
    return "\n".join(lines)


def fill(directory, kernel, system, options):
    """Put all that is to be on the disk into a directory: the project and, for arm64, a system."""
    top = directory / "var/tmp" if system else directory
    project = top / "fastpagemap"
    without = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", *["*.so"] * bool(system))
    shutil.copytree(PROJECT, project, ignore=without)
    shutil.copyfile(kernel.directory / f"boot/config-{kernel.release}", top / "config")
    if system:
        arm64.make_root(system, directory)
        made = arm64.install_wheel(system, project, directory)
        print(f"{made.name}: {made.stat().st_size >> 10} KiB", flush=True)
        shutil.rmtree(project / "build")
        python, path = f"/usr/bin/python{arm64.VERSION}", "/site"
    else:
        # as much of an installation as tells the version
        version = importlib.metadata.version("fastpagemap")
        installed = project / f"src/fastpagemap-{version}.dist-info"
        installed.mkdir()
        (installed / "METADATA").write_text(f"Name: fastpagemap\nVersion: {version}\n")
        python, path = sys.executable, "/var/tmp/fastpagemap/src"
    words = {"python": python, "path": path, "options": os.environ.get("PYTEST_ADDOPTS", "")}
    words = {name: shlex.quote(word) for name, word in words.items()}
    command = f"tests/kernels/inside.py {options.select} /dev/test-result"
    if options.run:
        command = f"""{options.run} && echo '{{"failed": []}}' >/dev/test-result"""
    (top / "start").write_text(START.format(command=command, **words))


if __name__ == "__main__":
    sys.exit(main())
