"""Namespaces of mounts, and of pids whose numbers are not those in /proc (root)."""

import os
import signal

import linux
import runas
from needs import refusal

CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
FIRST_PID_NAMESPACE = 0xEFFFFFFC  # the inode of its file, in every kernel
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000


def unshare(flags):
    """Go into new namespaces, made by flags of unshare(2)."""
    try:
        linux.call("unshare", flags)
    except OSError as error:
        raise refusal(error, "to make namespaces") from error


def own_mounts():
    """Go into a namespace of mounts, in which what is mounted is for this process alone."""
    unshare(CLONE_NEWNS)
    linux.call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)


def in_own_mounts(function, *arguments):
    """Call a function in a child that mounts for itself alone."""

    def enter():
        own_mounts()
        return function(*arguments)

    return runas.in_child(enter)


def in_pid_namespace(function, *arguments):
    """Call a function in the first process of a new pid namespace, with the /proc of this one."""

    def enter():
        unshare(CLONE_NEWPID)
        return runas.in_child(function, *arguments)

    return runas.in_child(enter)


def with_anothers_proc(function, *arguments):
    """Call a function where /proc is that of a pid namespace in which the caller is not."""

    def mount():
        linux.call("mount", b"proc", b"/proc", b"proc", 0, None)

    def enter():
        own_mounts()
        reader, writer = os.pipe()
        unshare(CLONE_NEWPID)
        pid = os.fork()
        if pid == 0:
            # /proc stays mounted as long as this namespace has a process.
            linux.die_with_parent()
            mount()
            os.write(writer, b"x")
            while True:
                signal.pause()
        os.close(writer)
        os.read(reader, 1)
        return function(*arguments)

    return runas.in_child(enter)
