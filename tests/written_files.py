"""Files that the package writes, in every way, for tests of their modes and their place."""

import contextlib
import os
import stat
import subprocess

import commandline
import fastpagemap as fpm
from fastpagemap.snapshot.replace_file import replace_file

ME = os.geteuid()


def mode(path):
    return stat.S_IMODE(os.stat(path, follow_symlinks=False).st_mode)


def write(path, owner=ME, content=b"new"):
    with replace_file(os.fspath(path), owner) as file:
        file.write(content)


@contextlib.contextmanager
def umask(mask):
    old = os.umask(mask)
    try:
        yield
    finally:
        os.umask(old)


def command(*arguments):
    said = commandline.run(*arguments, stdin=subprocess.DEVNULL)
    assert (said.returncode, said.stderr) == (0, b""), said.stderr


def save(pid, path):
    with fpm.PageMap(pid) as pagemap:
        pagemap.snapshot().save(path)


#: Every way to have a file written, by the ending that it wants.
WAYS = {
    "save": ("fpm", save),
    "dump": ("fpm", lambda pid, path: command("dump", pid, "-o", path)),
    "parquet": ("pq", lambda pid, path: command("report", pid, "--parquet", path)),
    "map": ("png", lambda pid, path: command("map", pid, "-o", path)),
}


def leave(path, mode):
    """Make a file that anybody may write, with bits of a program that runs as its owner."""
    with open(path, "wb"):
        pass
    os.chmod(path, mode)
