"""Programs that a command runs: their environment is theirs, and nothing of them is left behind."""

import importlib.util
import os
import signal
import subprocess
import time

import pytest

from commandline import COMMAND, run
from namesakes import namesakes
from needs import need

pytest.importorskip("click")

#: It forks a child that outlives it, as multiprocessing's do whose parent is killed.
PARENT = """
import os, time

child = os.fork()
if child:
    print("child", child, flush=True)
else:  # whoever reads what the command prints is not to wait for it
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    os.dup2(1, 2)
time.sleep(60)
"""


@pytest.mark.parametrize("command", ["forks", "writes"])
def test_the_environment_is_the_one_of_the_command(command, write_program):
    """The command itself imports numpy with one thread; a program that multiplies needs all."""
    program = write_program("import os\nprint(os.environ.get('OPENBLAS_NUM_THREADS'))")
    plain = {key: it for key, it in os.environ.items() if key != "OPENBLAS_NUM_THREADS"}
    for env, expected in ((plain, b"None"), (plain | {"OPENBLAS_NUM_THREADS": "3"}, b"3")):
        assert expected in run(command, program, env=env).stdout.splitlines()


@pytest.mark.parametrize("command", ["forks", "writes", "run"])
def test_a_program_may_have_modules_with_names_of_pythons(command, write_program):
    """It gets its own, as without the command, which does not stumble over them."""
    need(command != "run" or importlib.util.find_spec("memray"), "memray")
    program = write_program("import inspect, platform, sysconfig\nprint(inspect.x, sysconfig.x)\n")
    for name in ("inspect", "platform", "sysconfig"):
        program.with_name(f"{name}.py").write_text(f"x = 'my {name}'\nprint(x)\n")
    said = run(command, program)
    lines = [b"my inspect", b"my platform", b"my sysconfig", b"my inspect my sysconfig"]
    assert [line for line in said.stdout.splitlines() if line.startswith(b"my ")] == lines
    assert b"Traceback" not in said.stderr


@pytest.mark.parametrize("command", ["forks", "writes"])
def test_a_program_that_runs_already_is_not_the_one_that_is_shown(command, tmp_path):
    """Who types its name at night may mean that one, and starts a second server."""
    name = f"program{os.getpid()}.py"
    (tmp_path / name).write_text("")
    assert run(command, name, cwd=tmp_path).stderr.count(b"run anew") == 0
    with namesakes(tmp_path) as start:
        running = start(name)
        said = run(command, name, cwd=tmp_path).stderr.decode().splitlines()[0]
        assert run(command, tmp_path / name).stderr.count(b"run anew") == 0
    text = f"./{name} is run anew: for a process that runs it already, say its id, {running.pid}"
    assert said == f"fastpagemap: {text}"


@pytest.mark.parametrize("command", ["forks", "writes"])
@pytest.mark.parametrize("how", ["count", "pipe", "terminate"])
def test_no_child_is_left_behind(command, how, write_program):
    """However the command ends while the program runs."""
    # on a busy machine it takes a program some time to fork, and one look ends it
    options = ["--interval", "3", "--count", "1"] if how == "count" else ["--interval", "0.2"]
    program = write_program(PARENT)
    with subprocess.Popen(
        [*COMMAND, command, *options, program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        child = number_of_child(process.stdout)
        if how == "pipe":
            process.stdout.close()
        elif how == "terminate":
            process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            process.stdout.read()
        else:
            process.stdout.read()
        said = process.stderr.read()
    assert said == b""
    assert process.returncode == {"count": 0, "pipe": 141, "terminate": 143}[how]
    deadline = time.monotonic() + 30
    while os.path.exists(f"/proc/{child}/exe"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def number_of_child(out):
    """What the program prints stands between lines of the command."""
    for line in out:
        if line.startswith(b"child"):
            return int(line.split()[1])
    raise AssertionError("no child was forked")
