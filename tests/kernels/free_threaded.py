"""Builds a CPython without a GIL from Debian's source, if there is none yet; prints where it is.

No registry has one, and Debian none that is compiled. It takes two minutes of a processor, once: it
is kept in ~/.cache/fastpagemap-kernels. What it is linked with has to be here: libffi-dev,
libssl-dev, zlib1g-dev.
"""

import os
import shutil
import sys

from debian import CACHE, Archive, Failed, run

VERSION = "3.13"
#: Hardly optimized: it runs a few tests.
OPTIONS = ["-q", "--disable-gil", "--disable-test-modules", "--without-ensurepip"]


def main():
    """Print the path of the interpreter; return the exit status."""
    try:
        print(interpreter(), flush=True)
    except Failed as problem:
        print(f"no free-threaded Python: {problem}", file=sys.stderr)
        return 1
    return 0


def interpreter():
    """Return the path of the interpreter, once it is there."""
    target = CACHE / f"python{VERSION}t"
    program = target / f"bin/python{VERSION}t"
    if not program.exists():
        architecture = run("dpkg", "--print-architecture").strip()
        source = Archive(CACHE, architecture).source(f"python{VERSION}")
        make = ["make", "-s", f"-j{len(os.sched_getaffinity(0))}"]
        try:
            run("./configure", *OPTIONS, f"--prefix={target}", "OPT=-O1 -g0 -DNDEBUG", cwd=source)
            run(*make, cwd=source)
            run(*make, "install", cwd=source)
        finally:
            shutil.rmtree(source)
    return program


if __name__ == "__main__":
    sys.exit(main())
