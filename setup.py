"""Build the extension modules; everything else is in pyproject.toml.

FASTPAGEMAP_BUILD chooses how: nothing for what users get, "debug", or "sanitize".
"""

import glob
import gzip
import os
import re
import sys
import sysconfig
import tarfile
from typing import NamedTuple

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

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
# Where the files are that README.md names, for who reads it elsewhere.
FILES = "https://github.com/fastpagemap/fastpagemap/blob/main/"
PICTURES = "https://raw.githubusercontent.com/fastpagemap/fastpagemap/main/"


class Kind(NamedTuple):
    """One kind of build: its compiler directives and flags."""

    directives: dict[str, bool]
    compile: list[str]
    link: list[str]


SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
KINDS = {
    # -O3: the decoding loops are written to be vectorised by the compiler.
    # -g0: Python's own -g makes the modules four times as large, and a third slower to compile.
    # -s: without the names of our own functions, which Python's tracebacks have anyway.
    "": Kind({}, ["-O3", "-g0"], ["-s"]),
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
STRICT = [
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


def readme() -> str:
    """Return README.md with full addresses: an index shows it on a page of its own."""
    with open("README.md", encoding="utf-8") as file:
        text = file.read()
    text = re.sub(r"(!\[[^]]*\]\()(?!\w+:)", rf"\1{PICTURES}", text)
    return re.sub(r"(\]\()(?!\w+:|#)", rf"\1{FILES}", text)


class BuildOnLinux(build_ext):
    """Say in one line where the modules cannot be built; an sdist can be made anywhere."""

    def run(self) -> None:
        """Build the modules."""
        if sys.platform != "linux":
            sys.exit(f"fastpagemap needs Linux and its /proc/PID/pagemap: this is {sys.platform}")
        if sys.maxsize < 2**32:
            sys.exit("fastpagemap needs a 64-bit Python: this one has 32 bits")
        if sys.version_info < (3, 11):  # noqa: UP036  pip has looked, if it was pip that came here
            version = ".".join(map(str, sys.version_info[:3]))
            sys.exit(f"fastpagemap needs Python 3.11 or newer: this is {version}")
        translate(self.extensions)
        # Not before: Cython writes the flags into the C file, and modules have its line numbers.
        if os.environ.get("FASTPAGEMAP_WERROR") == "1":
            for each in self.extensions:
                each.extra_compile_args += STRICT
        self.parallel = self.parallel or processors()
        super().run()

    def build_extensions(self) -> None:
        """Build them without the linker's paths of the Python that builds: it may be anywhere."""
        self.compiler.linker_so = [
            word for word in self.compiler.linker_so if not word.startswith("-Wl,-rpath")
        ]
        super().build_extensions()


class SameBytes(sdist):
    """Write the same bytes each time, as wheels are, where SOURCE_DATE_EPOCH says of what time."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, **owner):
        """Write the archive."""
        epoch = int(os.environ.get("SOURCE_DATE_EPOCH", -1))
        if epoch < 0 or format != "gztar":
            return super().make_archive(base_name, format, root_dir, base_dir, **owner)

        def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime = epoch
            member.mode = 0o755 if member.mode & 0o100 else 0o644
            return member

        name = f"{base_name}.tar.gz"
        os.makedirs(os.path.dirname(name), exist_ok=True)
        with (
            gzip.GzipFile(name, "wb", mtime=epoch) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            archive.add(base_dir, filter=plain)  # in the order of their names
        return name


if __name__ == "__main__":  # Cython's processes may import this file
    os.umask(0o022)  # a wheel has the modes of the files it is made from, and is for everyone
    setup(
        long_description=readme(),
        long_description_content_type="text/markdown",
        ext_modules=[
            # first, because it takes longest; never in a loop over pages, so not worth more time
            extension(SHARED, [], "-O1"),
            *(extension(name, [path]) for name, path in MODULES.items()),
        ],
        cmdclass={"build_ext": BuildOnLinux, "sdist": SameBytes},
        options={
            "build": {"build_base": BASE},
            **({"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED else {}),
        },
    )
