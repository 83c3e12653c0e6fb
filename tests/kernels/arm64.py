"""All that is needed to run the tests on arm64: Debian's Python, wheels, and the project itself.

The extension modules are cross-compiled; everything else only has to be unpacked.
"""

import importlib.metadata
import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from debian import install, run

VERSION = "3.13"  # of Debian 13's Python
PYTHON = f"""
    python{VERSION}-minimal libpython{VERSION}-minimal libpython{VERSION}-stdlib busybox-static
    libc6 libgcc-s1 libstdc++6 libexpat1 libffi8 libssl3t64 libbz2-1.0 liblzma5 zlib1g
""".split()
WHEELS = ["numpy", "click", "rich", "pytest", "pytest-timeout", "hypothesis"]
COMPILER = "aarch64-linux-gnu-gcc"
# setup.py without the flags of the Python that runs it: they may be of its own processor alone.
SETUP = """
import runpy, sysconfig
sysconfig.get_config_vars()["CFLAGS"] = ""
runpy.run_path("setup.py", run_name="__main__")
"""


class System(NamedTuple):
    """Directories: a root file system, what pip installed, Python's headers."""

    root: Path
    wheels: Path
    include: Path


def fetch(archive):
    """Have everything here that is not the project's own, the compiler included."""
    install({COMPILER: "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"})
    root = archive.unpacked(f"python{VERSION}", PYTHON, finish=_make_bootable)
    headers = archive.unpacked(f"python{VERSION}-headers", [f"libpython{VERSION}-dev"])
    return System(root, _wheels(archive.directory), headers / "usr/include")


def _make_bootable(directory):
    """Add the directories and links that Debian's installer would make, and a user."""
    for name in ("bin", "lib", "sbin"):
        if not (directory / name).exists():
            (directory / name).symlink_to(f"usr/{name}")
    for name in ("dev", "etc", "proc", "run", "sys", "tmp"):
        (directory / name).mkdir(exist_ok=True)
    (directory / "tmp").chmod(0o1777)
    (directory / "usr/bin/sh").symlink_to("busybox")
    (directory / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    shutil.rmtree(directory / "usr/share/doc")


def _wheels(cache):
    """The packages that the tests need, of the versions that are used here."""
    wanted = [f"{name}=={importlib.metadata.version(name)}" for name in WHEELS]
    target = cache / "-".join(["wheels", *wanted])
    if not target.exists():
        unfinished = target.with_name(target.name + ".new")
        command = f"-m pip install --quiet --no-compile --target {unfinished}".split()
        command += f"--only-binary :all: --python-version {VERSION}".split()
        command += ["--platform", "manylinux_2_28_aarch64", "--platform", "manylinux2014_aarch64"]
        shutil.rmtree(unfinished, ignore_errors=True)
        run(sys.executable, *command, *wanted)
        unfinished.rename(target)
    return target


def make_root(system, root):
    """Fill the directory `root`, from which to boot: Debian's Python, and the wheels in /site."""
    shutil.copytree(system.root, root, symlinks=True, dirs_exist_ok=True)
    shutil.copytree(system.wheels, root / "site")


def compile_extensions(system, project):
    """Cross-compile the extension modules of a copy of the project, each to where its source is."""
    # Python's own headers are the same for all but for one, which is found below the second
    include = f"{system.include}/python{VERSION}:{system.include}"
    run(
        *(sys.executable, "-c", SETUP, "build_ext", "--inplace", "--include-dirs", include),
        env=os.environ | {"CC": COMPILER, "LDSHARED": f"{COMPILER} -shared"},
        cwd=project,
    )
