"""`fastpagemap run` as it is used: its table, its moments, its mistakes."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from commandline import COMMAND
from memray_run import MIB, SHOP, row_of, run
from needs import need


@pytest.mark.root
@pytest.mark.usefixtures("any_swap")
def test_the_shop():
    """The program to try it on: what is said of it when it is shown is so."""
    done = run(SHOP)
    assert row_of(done, "prices = np.zeros")[0] == "4Gi"
    assert row_of(done, "archive = mmap")[0] == "256Mi"
    assert row_of(done, "baskets = mmap")[:4] == ["64Mi", "8Mi", "0", "8Mi"]
    resident, swapped = (in_mib(cell) for cell in row_of(done, "archive = mmap")[1:3])
    assert abs(resident + swapped - 192) < 1
    assert swapped > 32
    assert in_mib(row_of(done, "buffer = np.empty")[1]) < 4


def in_mib(text):
    """A printed size in mebibytes."""
    units = {"Ki": 1 / 1024, "Mi": 1, "Gi": 1024}
    return float(text[:-2]) * units[text[-2:]] if text[-2:] in units else float(text) / MIB


LINE = "array = np.zeros(1 << 30, np.uint8)  # a gibibyte"

PROGRAM = f"""import os, signal, sys
import numpy as np
{LINE}
array[: 64 << 20] = 1
"""


def test_table(write_program):
    done = run(write_program(PROGRAM + "print(sys.argv)"), "--at", "-x")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"['{write_program(PROGRAM)}', '--at', '-x']")
    assert row_of(done, LINE)[:4] == ["1Gi", "64Mi", "0", "0"]


def test_module(tmp_path, write_program):
    write_program(PROGRAM + "print(sys.argv[1:], __name__)")
    done = run("--limit", 2, "-m", "program", "a", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("['a'] __main__")
    cells = row_of(done, LINE)
    assert cells[4] == "program.py:3 <module>"
    assert " more" in done.stdout


@pytest.mark.parametrize(
    ("ending", "code", "error"),
    [
        ("raise KeyError('no such thing')", 1, "KeyError: 'no such thing'"),
        ("sys.exit(7)", 7, ""),
        ("sys.exit('it is over')", 1, "it is over"),
    ],
)
def test_endings(write_program, ending, code, error):
    """However a program ends, there is a table, and its own exit code."""
    program = write_program(PROGRAM + ending)
    done = run(program)
    assert done.returncode == code
    assert row_of(done, LINE)[:2] == ["1Gi", "64Mi"]
    assert error in done.stderr
    assert "start.py" not in done.stderr
    assert "runpy" not in done.stderr


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("os._exit(8)", 8),
        ("os._exit(0)", 1),
        ("os.kill(os.getpid(), signal.SIGKILL)", 128 + signal.SIGKILL),
        ("os.execv(sys.executable, [sys.executable, '-c', ''])", 1),
    ],
)
def test_gone_before(write_program, ending, code):
    done = run(write_program(PROGRAM + ending))
    assert done.returncode == code
    assert done.stderr == "fastpagemap: the program ended before a table could be made\n"


def test_another_program(write_program):
    """Of what has called exec() memray knows nothing, and nothing is said."""
    then = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
    done = run(
        write_program(PROGRAM + f"os.execv(sys.executable, [sys.executable, '-c', {then!r}])")
    )
    assert done.returncode == 1
    assert "memray does not record it at this moment" in done.stderr
    assert not done.stdout


def test_moments_of_its_own(write_program):
    program = write_program(
        PROGRAM + "array[: 128 << 20] = 1\nos.kill(os.getpid(), signal.SIGSTOP)\n"
    )
    done = run("--at", "SIGUSR1", program)
    assert done.returncode == 0
    assert row_of(done, LINE)[:2] == ["1Gi", "128Mi"]
    assert done.stdout.count("allocations alive") == 1


# A program that learns when it goes on after a table, however long that takes.
GOING_ON = """import signal, sys, time
tables = []
signal.signal(signal.SIGCONT, lambda *_: tables.append(1))
"""


def test_told_by_a_signal(write_program):
    asked = "os.kill(os.getppid(), signal.SIGUSR1)\nwhile len(tables) < {}: time.sleep(0.01)\n"
    done = run(
        "--at", "SIGUSR1", write_program(GOING_ON + PROGRAM + asked.format(1) + asked.format(2))
    )
    assert done.returncode == 0
    assert done.stdout.count("allocations alive") == 2


def test_after_seconds(write_program, tmp_path):
    """Busy with small allocations: memray is caught in the midst of writing."""
    ready = tmp_path / "ready"
    # The table does not come before `due`: from then on it is waited for, however long that takes.
    # A signal that another thread gets is handled after a sleep at the latest (Python 3.11).
    busy = f"""
now, due = time.monotonic(), float(sys.argv[1])
with open({str(ready)!r} + ".part", "w") as file: file.write(str(now))
os.rename({str(ready)!r} + ".part", {str(ready)!r})
if now < due: time.sleep(due - now)
while now < due and not tables:
    for _ in range(1000): bytes(1000)
    time.sleep(0)
"""
    program = write_program(GOING_ON + PROGRAM + busy)
    for seconds in (2, 4, 8, 16, 32):  # a busy machine needs longer to get as far as that
        ready.unlink(missing_ok=True)
        due = time.monotonic() + seconds
        done = run("--at", seconds, program, due)
        if ready.exists() and float(ready.read_text()) < due:
            break
    assert (done.returncode, done.stderr) == (0, "")
    assert row_of(done, LINE)[:2] == ["1Gi", "64Mi"]
    late = run("--at", "100", write_program(""))
    assert (late.returncode, late.stdout) == (1, "")
    assert "before a table" in late.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["/nowhere/program.py"], "no file /nowhere/program.py"),
        (["--at", "soon", "x.py"], "soon"),
        (["--at", "nan", "x.py"], "nan"),
        (["--at", "-1", "x.py"], "-1"),
        (["-m", "no_such_module"], "no_such_module"),
        (["-m", "json.no_such_module"], "json.no_such_module"),
        ([], "PROGRAM"),
    ],
)
def test_mistakes(arguments, word):
    done = run(*arguments)
    assert done.returncode in (1, 2)
    assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_syntax_error(write_program):
    done = run(write_program("x = (\n"))
    assert done.returncode == 1
    assert "SyntaxError" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_memray(write_program):
    code = f"""import sys
sys.modules["memray"] = None
from fastpagemap.cli import main
sys.exit(main(["run", {str(write_program(""))!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "fastpagemap: memray is not installed: pip install 'fastpagemap[memray]'\n"
    )


def test_json_in_a_file(write_program, tmp_path):
    """Standard output is the program's alone; all lines are in the file, in bytes."""
    written = tmp_path / "lines.json"
    done = run("--json", "-o", written, write_program(PROGRAM + "print('all its own')"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "all its own\n", "")
    found = json.loads(written.read_text())
    row = next(row for row in found["rows"] if row["line"] == 3)
    assert row["allocated"] == 1 << 30
    assert 64 * MIB <= row["present"] < 65 * MIB  # it begins within a page
    assert found["totals"]["allocated"] == sum(each["allocated"] for each in found["rows"])
    assert found["process"]["present"] > 64 << 20


def test_names_that_are_no_text(tmp_path):
    """Bytes that are not UTF-8, in the program's name and in what it is given."""
    program = os.fsencode(tmp_path) + b"/\xff.py"
    with open(program, "w") as file:
        file.write(PROGRAM + "print(os.fsencode(sys.argv[1]))")
    done = run(os.fsdecode(program), os.fsdecode(b"\xfe"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("b'\\xfe'\n")
    assert " 1Gi     64Mi " in done.stdout  # at whichever line: memray leaves such a file out


@pytest.mark.parametrize("how", ["os.close(1)", "sys.stdout.close()", "sys.stdout = None"])
def test_closed_output(write_program, how):
    """What a program does to its own standard output does not take the table."""
    done = run(write_program(PROGRAM + f"print('said'); {how}"))
    assert row_of(done, LINE)[:2] == ["1Gi", "64Mi"]


def test_standard_output_by_name(write_program, tmp_path):
    done = run("-o", "-", write_program(PROGRAM), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert row_of(done, LINE)[:2] == ["1Gi", "64Mi"]
    assert not (tmp_path / "-").exists()


def test_killed_profiler(write_program, tmp_path):
    """Whoever runs the program may be killed: the program does not stand still for ever."""
    need(importlib.util.find_spec("memray"), "memray")
    program = write_program("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [*COMMAND, "run", program],
        stdout=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path)},  # where it leaves what it wrote
    )
    with process:
        pid = int(process.stdout.readline())
        process.kill()
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}/exe") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{pid}/exe")
