"""Ctrl-C while `fastpagemap forks` notes a program's objects: it acts as it would without it."""

import signal

import pytest

from commandline import run

pytest.importorskip("click")
pytestmark = pytest.mark.usefixtures("_ctrl_c")

#: Ctrl-C is pressed once, where the objects are noted: an object is asked for its size then.
PROGRAM = """
import json, multiprocessing, os, posix, signal, subprocess, sys

class Pressed:
    def __sizeof__(self):
        if presses:
            os.kill(os.getpid(), presses.pop())
        return 100

class Stop(Exception):
    pass

def forked():
    # The handlers, and whether the objects have been noted.
    if not (pid := os.fork()):
        print("child", repr(signal.getsignal(signal.SIGINT)), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    print("parent", repr(signal.getsignal(signal.SIGINT)), flush=True)
    print("noted", b'"pressed"' in open(objects, "rb").readline(), flush=True)

def stop(number, frame):
    print("stopped", flush=True)
    raise Stop

def nothing(*_):
    print("handled", flush=True)

words = open("/proc/self/cmdline").read().split("\\0")
objects = next(json.loads(word)["objects"] for word in words if word[:1] == "{")
presses = [signal.SIGINT]
pressed = Pressed()
"""
WAYS = {
    "os.fork": "os.fork() or os._exit(0)",
    "posix.fork": "posix.fork() or os._exit(0)",
    "os.forkpty": "os.forkpty()[0] or os._exit(0)",
    "multiprocessing": "multiprocessing.get_context('fork').Process(target=int).start()",
    "subprocess": "subprocess.run(['true'], preexec_fn=int)",
}


@pytest.mark.parametrize("way", WAYS)
def test_it_ends_the_program(way, write_program):
    """However it forks: one press is enough, and nothing says that it was ignored."""
    said = run("forks", write_program(f"{PROGRAM}{WAYS[way]}\nprint('went on')\n"), timeout=60)
    assert (said.returncode, said.stdout) == (128 + signal.SIGINT, b"")
    assert b"\nKeyboardInterrupt\n" in said.stderr
    assert b"ignored" not in said.stderr


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        ("stop", ["stopped", "not forked"]),
        ("lambda *_: stop(0, None)", ["stopped", "not forked"]),
        ("signal.default_int_handler", ["not forked"]),
    ],
)
def test_what_a_handler_raises_reaches_the_program(handler, expected, write_program):
    """It is raised where the program forks. The next fork notes what this one has not."""
    text = f"""{PROGRAM}
signal.signal(signal.SIGINT, {handler})
try:
    forked()
except (KeyboardInterrupt, Stop):
    print("not forked", flush=True)
forked()
"""
    said = run("forks", "--json", write_program(text), timeout=60)
    shown = "<function" if "stop" in handler else "<built-in"
    assert of_program(said) == expected + after_fork(shown)
    assert b"ignored" not in said.stderr


def after_fork(handler):
    """What the program prints where it forks, and has this handler."""
    return [f"child {handler}", f"parent {handler}", "noted True"]


def of_program(said):
    """The first two words of each line that the program itself printed."""
    lines = said.stdout.decode().splitlines()
    return [" ".join(line.split()[:2]) for line in lines if not line.startswith("{")]


def test_a_handler_that_exits(write_program):
    """As servers do when they are to end; it is no Exception, and was lost as Ctrl-C was."""
    text = f"{PROGRAM}signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
    text += "presses[:] = [signal.SIGTERM]\nforked()\n"
    said = run("forks", write_program(text), timeout=60)
    assert (said.returncode, said.stdout) == (7, b"")


@pytest.mark.parametrize("handler", ["nothing", "signal.SIG_IGN"])
def test_a_handler_that_raises_nothing(handler, write_program):
    """It is called once, and is still there afterwards, in the child as well."""
    text = f"{PROGRAM}signal.signal(signal.SIGINT, {handler})\nforked()\n"
    said = run("forks", "--json", write_program(text), timeout=60)
    shown = "<Handlers.SIG_IGN:" if handler == "signal.SIG_IGN" else "<function"
    assert of_program(said) == ["handled"] * (handler == "nothing") + after_fork(shown)


def test_objects_that_cannot_be_noted(write_program):
    """The program goes on without, and the reason is said once: no error reaches the program."""
    text = f"{PROGRAM}presses.clear()\nos.mkdir(f'{{objects}}.part')\n"
    text += "for _ in range(2): os.fork() or os._exit(0)\nprint('went on')\n"
    said = run("forks", write_program(text), timeout=60)
    assert (said.returncode, said.stdout) == (1, b"went on\n")
    lines = said.stderr.splitlines()
    assert lines[0].startswith(b"fastpagemap: the program's objects cannot be noted: IsADirectory")
    assert len(lines) == 2
