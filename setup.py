"""Build the extension modules; everything else is in pyproject.toml."""

import glob
import os
import sys
import sysconfig

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# The .pyx files, by the modules they become.
MODULES = {
    path.removeprefix("src/").removesuffix(".pyx").replace("/", "."): path
    for path in sorted(glob.glob("src/fastpagemap/**/*.pyx", recursive=True))
}
# One wheel serves CPython 3.11 and later; free-threaded builds have no limited API.
LIMITED = not sysconfig.get_config_var("Py_GIL_DISABLED")
# gcc 14 and clang 16 refuse these; older compilers would build a module that crashes.
WARNINGS = [
    "-Werror=implicit",
    "-Werror=int-conversion",
    "-Werror=incompatible-pointer-types",
    "-Werror=return-type",
]
# CI makes every warning an error. A user's build must not fail because a new compiler warns more.
if os.environ.get("FASTPAGEMAP_WERROR") == "1":
    WARNINGS += [
        "-Werror",
        "-Wall",
        "-Wextra",
        # Cython's conversion of an int to an enum ignores its argument under the limited API.
        "-Wno-unused-parameter",
    ]


def extension(name: str) -> Extension:
    """Return the extension module of one .pyx file."""
    return Extension(
        name,
        [MODULES[name]],
        depends=[
            path
            for end in ("h", "pxd")
            for path in glob.glob(f"src/fastpagemap/**/*.{end}", recursive=True)
        ],
        include_dirs=["src/fastpagemap/_kernel"],
        define_macros=[("Py_LIMITED_API", "0x030B0000")] if LIMITED else [],
        py_limited_api=LIMITED,
        # -O3: the decoding loops are written to be vectorised by the compiler.
        extra_compile_args=["-O3", "-fno-strict-aliasing", "-fvisibility=hidden", *WARNINGS],
    )


class BuildOnLinux(build_ext):
    """Say in one line where the modules cannot be built; an sdist can be made anywhere."""

    def run(self) -> None:
        """Build the modules."""
        if sys.platform != "linux":
            sys.exit(f"fastpagemap needs Linux and its /proc/PID/pagemap: this is {sys.platform}")
        if sys.maxsize < 2**32:
            sys.exit("fastpagemap needs a 64-bit Python: this one has 32 bits")
        super().run()


setup(
    ext_modules=[extension(name) for name in MODULES],
    cmdclass={"build_ext": BuildOnLinux},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED else {},
)
