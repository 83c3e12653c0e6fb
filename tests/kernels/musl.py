"""Builds the wheel for musl, the C library of Alpine, and runs what the release tests it with.

python tests/kernels/musl.py. The Python is `pythons.py 3.13-musl`. All of it but gcc is kept in
~/.cache/fastpagemap-kernels; nothing is installed.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pythons
import wheel
from debian import CACHE, Failed, run

PLATFORM = "musllinux_1_2_x86_64"
BUILT_WITH = ["setuptools", "cython"]
TESTED_WITH = ["numpy", "pytest", "pytest-timeout", "hypothesis"]


def main():
    """Build and test the wheel; return the exit status."""
    with tempfile.TemporaryDirectory(prefix="fastpagemap-") as scratch:
        try:
            python = pythons.with_musl("amd64")
            return test(python, build(python, Path(scratch)), Path(scratch, "test"))
        except Failed as problem:
            print(f"with musl: {problem}", file=sys.stderr)
            return 1


def build(python, scratch):
    """Return the path of the wheel, and say how large it is."""
    wheel.copy_sources(scratch / "project", "*.so")
    tools = wheel.dependencies(CACHE, BUILT_WITH, pythons.COMPILED, PLATFORM)
    environment = {"PYTHONPATH": str(tools), "FASTPAGEMAP_WERROR": "1"}
    made = wheel.build(scratch / "project", PLATFORM, [python, "setup.py"], environment)
    print(f"{made.name}: {made.stat().st_size >> 10} KiB")
    print(run(sys.executable, "-m", "auditwheel", "show", made), flush=True)
    return made


def test(python, made, directory):
    """Run the release's tests of its wheels on this one; return their exit status."""
    settings = tomllib.loads((wheel.PROJECT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
    for name in settings["test-sources"]:
        source = wheel.PROJECT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, directory / name)
    wheel.unpack(made, directory / "site")
    needed = wheel.dependencies(CACHE, TESTED_WITH, pythons.COMPILED, PLATFORM)
    environment = os.environ | {"PYTHONPATH": f"{directory}/site:{needed}"}
    (command,) = settings["test-command"]
    words = [str(python), *shlex.split(command)[1:]]
    return subprocess.run(words, cwd=directory, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
