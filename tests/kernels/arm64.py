"""All that is needed to run the tests on arm64: Debian's Python, wheels, and the project's own.

That one is cross-compiled, as an index would take it; everything else only has to be unpacked.
"""

import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import wheel
from debian import install

VERSION = "3.13"  # of Debian 13's Python
PYTHON = f"""
    python{VERSION}-minimal libpython{VERSION}-minimal libpython{VERSION}-stdlib busybox-static
    libc6 libgcc-s1 libstdc++6 libexpat1 libffi8 libssl3t64 libbz2-1.0 liblzma5 zlib1g
""".split()
WHEELS = ["numpy", "click", "rich", "pytest", "pytest-timeout", "hypothesis"]
COMPILER = "aarch64-linux-gnu-gcc"
PLATFORM = "manylinux_2_28_aarch64"
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
    packages = wheel.dependencies(
        archive.directory, WHEELS, VERSION, PLATFORM, "manylinux2014_aarch64"
    )
    return System(root, packages, headers / "usr/include")


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


def make_root(system, root):
    """Fill the directory `root`, from which to boot: Debian's Python, and the wheels in /site."""
    shutil.copytree(system.root, root, symlinks=True, dirs_exist_ok=True)
    shutil.copytree(system.wheels, root / "site")


def install_wheel(system, project, root):
    """Build the wheel of a copy of the project and unpack it into /site; return its path."""
    # Python's own headers are the same for all but for one, which is found below the second
    include = f"-I{system.include}/python{VERSION} -I{system.include}"
    compiler = {"CC": COMPILER, "LDSHARED": f"{COMPILER} -shared", "CPPFLAGS": include}
    made = wheel.build(project, PLATFORM, [sys.executable, "-c", SETUP], compiler)
    wheel.unpack(made, root / "site")
    return made
