"""Build the extension modules; everything else is in pyproject.toml.

FASTPAGEMAP_BUILD chooses how: nothing for what users get, "debug", or "sanitize".
"""

import glob
import os
import sys
import sysconfig
from typing import NamedTuple

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# The .pyx files, by the modules they become.
MODULES = {
    path.removeprefix("src/").removesuffix(".pyx").replace("/", "."): path
    for path in sorted(glob.glob("src/fastpagemap/**/*.pyx", recursive=True))
}
# Cython's own code for memoryviews: compiled once, here, and not into each module that has some.
SHARED = "fastpagemap._kernel._cyutility"
# One wheel serves CPython 3.11 and later; free-threaded builds have no limited API.
LIMITED = not sysconfig.get_config_var("Py_GIL_DISABLED")
# The head of every .pyx file, as it were.
DIRECTIVES = {
    "language_level": 3,
    "freethreading_compatible": True,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "embedsignature": False,
    "auto_pickle": False,
}


class Kind(NamedTuple):
    """One kind of build: its compiler directives and flags."""

    directives: dict[str, bool]
    compile: list[str]
    link: list[str]


SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
KINDS = {
    # -O3: the decoding loops are written to be vectorised by the compiler.
    # -g0: Python's own -g makes the modules four times as large, and a third slower to compile.
    "": Kind({}, ["-O3", "-g0"], []),
    "debug": Kind(
        {"boundscheck": True, "initializedcheck": True},
        ["-O1", "-g", "-UNDEBUG"],  # Python's own flags have -DNDEBUG: no assertions
        [],
    ),
    "sanitize": Kind({}, ["-O1", "-g", "-UNDEBUG", "-fno-omit-frame-pointer", *SANITIZE], SANITIZE),
}
BUILD = os.environ.get("FASTPAGEMAP_BUILD", "")
if BUILD not in KINDS:
    sys.exit(f"FASTPAGEMAP_BUILD is {BUILD!r}: it may be debug, sanitize, or nothing")
KIND = KINDS[BUILD]
# Each kind has a directory of its own, so that no object file of another is taken for its own.
BASE = os.path.join("build", BUILD).rstrip("/")
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


def extension(name: str, sources: list[str], *flags: str) -> Extension:
    """Return one extension module."""
    return Extension(
        name,
        sources,
        depends=[
            path
            for end in ("h", "pxd")
            for path in glob.glob(f"src/fastpagemap/**/*.{end}", recursive=True)
        ],
        include_dirs=["src/fastpagemap", "src/fastpagemap/_kernel"],
        define_macros=[("Py_LIMITED_API", "0x030B0000")] if LIMITED else [],
        py_limited_api=LIMITED,
        extra_compile_args=[
            *("-fno-strict-aliasing", "-fvisibility=hidden"),
            *("-include", "src/fastpagemap/_kernel/traceback.h"),
            *(*KIND.compile, *WARNINGS, *flags),
        ],
        extra_link_args=KIND.link,
    )


def translate(extensions: list[Extension]) -> None:
    """Put in the place of each extension's .pyx file the C file that Cython makes of it."""
    from Cython.Build import cythonize  # an sdist can be made without

    directory = os.path.join(BASE, "cython")
    made = [f"{directory}/{path.removesuffix('.pyx')}.c" for path in MODULES.values()]
    changed = os.path.getmtime(__file__)  # and with it perhaps the directives
    translated = cythonize(
        extensions,
        nthreads=processors(),
        build_dir=directory,
        compiler_directives=DIRECTIVES | KIND.directives,
        shared_utility_qualified_name=SHARED,
        force=any(os.path.exists(path) and os.path.getmtime(path) < changed for path in made),
    )
    for extension, new in zip(extensions, translated, strict=True):
        extension.sources = new.sources


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


class BuildOnLinux(build_ext):
    """Say in one line where the modules cannot be built; an sdist can be made anywhere."""

    def run(self) -> None:
        """Build the modules."""
        if sys.platform != "linux":
            sys.exit(f"fastpagemap needs Linux and its /proc/PID/pagemap: this is {sys.platform}")
        if sys.maxsize < 2**32:
            sys.exit("fastpagemap needs a 64-bit Python: this one has 32 bits")
        translate(self.extensions)
        self.parallel = self.parallel or processors()
        super().run()


if __name__ == "__main__":  # Cython's processes may import this file
    setup(
        ext_modules=[
            # first, because it takes longest; never in a loop over pages, so not worth more time
            extension(SHARED, [], "-O1"),
            *(extension(name, [path]) for name, path in MODULES.items()),
        ],
        cmdclass={"build_ext": BuildOnLinux},
        options={
            "build": {"build_base": BASE},
            **({"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED else {}),
        },
    )
