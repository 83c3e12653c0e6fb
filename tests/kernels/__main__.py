"""Runs the tests on other kernels, each in a virtual machine: python tests/kernels [KERNEL...]

Debian's kernels, found and fetched by apt, booted by qemu; without arguments all of KERNELS. For
amd64 the files inside are those of this machine, read-only, and the Python is that of this command;
for arm64 both are Debian's. As root; what is lacking is installed by apt.

A kernel that cannot be had is MISSING: a failure only if it was asked for by name. Everything that
was fetched, and the log of the last run on each kernel, is in ~/.cache/fastpagemap-kernels.
"""

import contextlib
import importlib.metadata
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path

import arm64
import machine
from debian import Archive, Failed
from table import print_tables

# A version, of which the newest is taken, and the flavour where it is not the one of FLAVOUR.
KERNELS = ["5.10", "6.1", "6.12", "6.18", "7", "6.12-arm64-16k"]
FLAVOUR = "cloud-amd64"  # the smallest one; its settings for memory are those of the others
PROJECT = Path(__file__).resolve().parent.parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "fastpagemap-kernels")
LIMIT = 3600  # seconds for one kernel

# What the machine runs. The ports are the log and the answer; a reset ends the machine.
START = """
exec </dev/null >/dev/test-log 2>&1
chmod 1777 /var/tmp
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/var/tmp TMPDIR=/var/tmp LANG=C.UTF-8
export PYTHONPATH={path} PYTEST_ADDOPTS={options}
cd /var/tmp/fastpagemap
{python} tests/kernels/inside.py /dev/test-result
echo b >/proc/sysrq-trigger
"""


def main(asked):
    """Go through the kernels, one after the other; return the exit status."""
    answers, bad = {}, False
    for name in asked or KERNELS:
        print(f"== {name}", flush=True)
        started = time.monotonic()
        try:
            kernel, system = fetch(name)
        except Failed as problem:
            answers[name] = {"missing kernel": str(problem)}
            bad |= bool(asked)
            continue
        answers[name] = answer = test_on(kernel, system, CACHE / f"{name}.log")
        answer["seconds"] = round(time.monotonic() - started)
        bad |= bool(answer["failed"])
    print_tables(answers)
    return int(bad or all("missing kernel" in answer for answer in answers.values()))


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


def test_on(kernel, system, log):
    """Run the tests on a kernel; return what inside.py answers, or that there was no answer."""
    print(f"{kernel.release}, log: {log}", flush=True)
    with tempfile.TemporaryDirectory(prefix="fastpagemap-") as scratch:
        work = Path(scratch)
        try:
            fill(work / "content", system)
            machine.boot(kernel, work / "content", log, work, LIMIT)
        except Failed as problem:
            print(problem)
            return {"failed": [str(problem).splitlines()[0]]}
        with contextlib.suppress(ValueError):
            answer = json.loads((work / "result").read_text())
            print("".join(f"failed: {test}\n" for test in answer["failed"]), end="", flush=True)
            return answer
        print("it did not come to an end; its last words:")
        for path, lines in {log: 5, work / "console": 25, work / "qemu": 5}.items():
            print("\n".join(path.read_text(errors="replace").splitlines()[-lines:]), flush=True)
    return {"failed": ["it did not come to an end"]}


def fill(directory, system):
    """Put all that is to be on the disk into a directory: the project and, for arm64, a system."""
    top = directory / "var/tmp" if system else directory
    project = top / "fastpagemap"
    without = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", *["*.so"] * bool(system))
    shutil.copytree(PROJECT, project, ignore=without)
    # as much of an installation as tells the version
    version = importlib.metadata.version("fastpagemap")
    installed = project / f"src/fastpagemap-{version}.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(f"Name: fastpagemap\nVersion: {version}\n")
    python, path = sys.executable, "/var/tmp/fastpagemap/src"
    if system:
        arm64.make_root(system, directory)
        arm64.compile_extensions(system, project)
        python, path = f"/usr/bin/python{arm64.VERSION}", f"{path}:/site"
    words = {"python": python, "path": path, "options": os.environ.get("PYTEST_ADDOPTS", "")}
    words = {name: shlex.quote(word) for name, word in words.items()}
    (top / "start").write_text(START.format(**words))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
