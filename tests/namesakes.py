"""Processes of one name, with command lines of any words."""

import contextlib
import os
import pwd
import shutil
import subprocess

import linux

#: No other run of the tests has processes of this name; short enough for the kernel's names.
NAME = f"one-name-{os.getpid() % 100_000}"


@contextlib.contextmanager
def namesakes(directory):
    """Gives a function that starts one, given its words; all end with the context.

    It has done all that it does when the function returns: its memory changes no more.
    """
    program = directory / NAME
    shutil.copy(shutil.which("sleep"), program)
    with contextlib.ExitStack() as stack:

        def start(*words):
            process = subprocess.Popen([*words, "600"], executable=program)
            stack.enter_context(process)
            stack.callback(process.kill)
            linux.wait_until_asleep(process.pid)
            return process

        yield start


def user():
    """The name of the user that this is; the number, where it has none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
