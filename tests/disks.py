"""Disks that are files, and file systems on them (root)."""

import contextlib
import os
import shutil
import subprocess
import tempfile

import backed
import linux
from needs import Absent, need, refusal

SIZE = 512 << 20  # sparse; xfs wants no less than 300 MiB


def program(name):
    """The path of a program, also of one for administrators alone."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    need(found, name, Absent)
    return found


@contextlib.contextmanager
def formatted(kind):
    """A disk with a new file system of a kind on it: its path."""
    mkfs, losetup = program(f"mkfs.{kind}"), program("losetup")
    need(os.path.exists("/dev/loop-control"), "loop devices", Absent)
    with tempfile.NamedTemporaryFile(dir=backed.disk_directory()) as file:
        file.truncate(SIZE)
        subprocess.run([mkfs, "-q", file.name], check=True, stdout=subprocess.DEVNULL)
        command = [losetup, "--find", "--show", file.name]
        disk = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        try:
            yield disk
        finally:
            subprocess.run([losetup, "--detach", disk], check=True)


@contextlib.contextmanager
def mounted(disk, kind, directory):
    """Mount a disk for a while; what is mapped of it lives on."""
    try:
        linux.call("mount", disk.encode(), directory.encode(), kind.encode(), 0, None)
    except OSError as error:
        raise refusal(error, f"to mount {kind}") from error
    need(True, f"root (to mount {kind})")
    try:
        yield
    finally:
        linux.call("umount2", directory.encode(), linux.MNT_DETACH)


@contextlib.contextmanager
def subvolumes(*names):
    """A btrfs with subvolumes: its directory."""
    btrfs = program("btrfs")
    with (
        formatted("btrfs") as disk,
        tempfile.TemporaryDirectory(prefix="fastpagemap-") as directory,
        mounted(disk, "btrfs", directory),
    ):
        os.chmod(directory, 0o755)
        for name in names:
            subprocess.run(
                [btrfs, "-q", "subvolume", "create", os.path.join(directory, name)], check=True
            )
        yield directory
