"""Prints where a CPython is that this machine lacks: python tests/kernels/pythons.py NAME

3.14: of Debian's unstable, unpacked; it runs with the C library that it was built with.
3.13t: without a GIL. Debian has none, so it is compiled from Debian's source. What it is linked
with has to be here: libffi-dev, libssl-dev, zlib1g-dev.
3.13-musl: with the C library of Alpine. Compiled likewise, with Debian's musl, libffi and zlib.

Each is made once, and kept in ~/.cache/fastpagemap-kernels. To compile one takes two minutes of a
processor.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from debian import CACHE, Archive, Failed, run

COMPILED = "3.13"
NEWEST = "3.14"
#: Hardly optimized: it runs a few tests.
OPTIONS = ["-q", "--disable-test-modules", "--without-ensurepip", "OPT=-O1 -g0 -DNDEBUG"]
UNPACKED = f"""
    python{NEWEST}-minimal libpython{NEWEST}-minimal libpython{NEWEST}-stdlib libpython{NEWEST}-dev
    libc6 libgcc-s1 libexpat1 libffi8 libssl3t64 libbz2-1.0 liblzma5 libzstd1 zlib1g
""".split()
#: What musl's directories lack. Of the two libraries, Python uses what any C library has.
TRIPLET = "x86_64-linux-musl"
MUSL = ["musl", "musl-dev", "linux-libc-dev", "libffi-dev", "zlib1g-dev"]
OTHERS = {
    "usr/include": [
        *("linux", "asm-generic", "zlib.h", "zconf.h"),
        *(f"x86_64-linux-gnu/{name}" for name in ("asm", "ffi.h", "ffitarget.h")),
    ],
    "usr/lib": [f"x86_64-linux-gnu/{name}" for name in ("libffi_pic.a", "libz.a")],
}
#: gcc, with musl in place of this machine's C library, and with the name that configure asks for.
COMPILER = f"""#!/bin/sh
[ "$1" != --print-multiarch ] || exec echo {TRIPLET}
exec gcc "$@" -specs {{specs}}
"""


def main(name):
    """Print the path of an interpreter; return the exit status."""
    try:
        if name not in MADE:
            raise Failed(f"only {', '.join(MADE)} can be had")
        print(MADE[name](run("dpkg", "--print-architecture").strip()), flush=True)
    except Failed as problem:
        print(f"no Python {name}: {problem}", file=sys.stderr)
        return 1
    return 0


def newest(architecture):
    """Return the path of Python 3.14, once it is there."""
    archive = Archive(CACHE / "sid", architecture, ["sid"])
    root = archive.unpacked(f"python{NEWEST}", UNPACKED) / "usr"
    program = root / f"bin/python{NEWEST}"
    (libraries,) = root.glob("lib/*-linux-gnu")
    (loader,) = libraries.glob("ld-linux-*")
    # found below the same directory as Python's own headers
    headers = root / f"include/python{NEWEST}" / libraries.name
    if not headers.exists():
        run(
            *("patchelf", "--set-interpreter", loader),
            *("--force-rpath", "--set-rpath", libraries, program),
        )
        headers.symlink_to(f"../{libraries.name}")
    return program


def free_threaded(architecture):
    """Return the path of a Python without a GIL, once it is there."""
    return _compiled(architecture, f"python{COMPILED}t", "--disable-gil")


def with_musl(architecture):
    """Return the path of a Python for musl, once it is there."""
    if architecture != "amd64":
        raise Failed(f"not tried on {architecture}")
    compiler = _for_musl(Archive(CACHE, architecture).unpacked("musl", MUSL))
    # without pkg-config, which knows of libraries for this machine's own C library
    return _compiled(architecture, f"python{COMPILED}-musl", f"CC={compiler}", "PKG_CONFIG=false")


MADE = {NEWEST: newest, f"{COMPILED}t": free_threaded, f"{COMPILED}-musl": with_musl}


def _compiled(architecture, name, *options):
    """Compile Python from Debian's source, if that was not done; return the path."""
    target = CACHE / name
    program = target / "bin/python3"  # installed last
    if program.exists():
        return program
    # Debian's zlib is to be part of a program, not of a module
    setup = "*static*\nzlib zlibmodule.c -lz\n"
    make = ["make", "-s", f"-j{len(os.sched_getaffinity(0))}"]
    with tempfile.TemporaryDirectory(prefix="fastpagemap-") as source:
        Archive(CACHE, architecture).source(f"python{COMPILED}", source)
        Path(source, "Modules/Setup.local").write_text(setup)
        run("./configure", *OPTIONS, *options, f"--prefix={target}", cwd=source)
        run(*make, cwd=source)
        run(*make, "install", cwd=source)
    return program


def _for_musl(root):
    """Return the path of a compiler for the musl in a directory: gcc, told where all is."""
    for place, others in OTHERS.items():
        for name in others:
            link = root / place / TRIPLET / Path(name).name.replace("_pic", "")
            if not link.is_symlink():
                link.symlink_to(f"../{name}")
    # Wheels name the library as Alpine does; its name in Debian, libc.so, is that of others, too.
    libc, loader = root / "usr/lib" / TRIPLET / "libc.so", root / "usr/lib/ld-musl-x86_64.so.1"
    if loader.is_symlink():
        shutil.copy(libc, loader.with_suffix(".new"))
        run("patchelf", "--set-soname", "libc.musl-x86_64.so.1", libc)
        loader.with_suffix(".new").replace(loader)
    specs = (root / "usr/lib" / TRIPLET / "musl-gcc.specs").read_text()
    specs = specs.replace("/usr/", f"{root}/usr/").replace("/lib/ld-", f"{root}/usr/lib/ld-")
    (root / "specs").write_text(specs)
    compiler = root / "gcc"
    compiler.write_text(COMPILER.format(specs=root / "specs"))
    compiler.chmod(0o755)
    return compiler


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
