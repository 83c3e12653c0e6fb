"""`fastpagemap memray`: of a program that memray records already, and what it writes of it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from commandline import COMMAND
from locked import Locked
from memray_run import ENVIRONMENT, MEMRAYS_OWN, MIB, recorded, row_of
from needs import need

PROGRAM = """import sys
import numpy as np

def reserve():
    return np.zeros(1 << 30, np.uint8)

def load():
    return np.ones(32 << 20, np.uint8)

def both():
    return [reserve(), load()]

kept = [*both(), load()]
kept[0][: 64 << 20] = 1
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """A capture file, and the pid of the program that is recorded in it; it stands still."""
    directory = tmp_path_factory.mktemp("recorded")
    path = directory / "program.py"
    path.write_text(PROGRAM)
    with recorded(directory / "capture", path) as process:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        yield directory / "capture", process.pid


def memray(*arguments, **options):
    done = subprocess.run(
        [*COMMAND, "memray", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=ENVIRONMENT,
        **options,
    )
    done.stderr = MEMRAYS_OWN.sub("", done.stderr)
    return done


def test_cut_in_its_last_record(tmp_path, write_program):
    """A program is caught while a record is written: the rest counts, and nothing is said of it."""
    capture = tmp_path / "capture"
    with recorded(capture, write_program(PROGRAM)) as process:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        size = len(capture.read_bytes().rstrip(b"\0"))
        for cut in range(1, 9):
            os.truncate(capture, size - cut)
            done = memray(capture, process.pid)
            assert (done.returncode, done.stderr) == (0, "")
            assert row_of(done, "return np.ones")[0] == "64Mi"


def whole(program):
    return json.loads(memray(*program, "--json").stdout)


def test_table(program):
    done = memray(*program)
    assert (done.returncode, done.stderr) == (0, "")
    assert row_of(done, "return np.zeros")[:4] == ["1Gi", "64Mi", "0", "0"]
    assert row_of(done, "return np.ones")[:4] == ["64Mi", "64Mi", "0", "0"]
    rows = whole(program)["rows"]
    assert [row["line"] for row in rows[:2]] == [5, 8]


def test_of_one_that_goes_on(tmp_path, write_program):
    """A program that is not stopped, and by a link to the file."""
    os.symlink(tmp_path / "capture", tmp_path / "link")
    with recorded(tmp_path / "capture", write_program(PROGRAM)) as process:
        done = memray(tmp_path / "link", process.pid)
    assert (done.returncode, done.stderr) == (0, "")
    assert row_of(done, "return np.zeros")[:2] == ["1Gi", "64Mi"]


def test_by_another_path(program, tmp_path):
    """As of a container, where the process calls the file something else."""
    capture, pid = program
    os.link(capture, tmp_path / capture.name)
    done = memray(tmp_path / capture.name, pid)
    assert (done.returncode, done.stderr) == (0, "")


def test_speedscope(program, tmp_path):
    path = tmp_path / "memory.json"
    done = memray(*program, "--flamegraph", path)
    assert row_of(done, "return np.zeros")[0] == "1Gi"
    found = json.loads(path.read_text())
    frames = [(each["name"], each.get("line")) for each in found["shared"]["frames"]]
    totals = whole(program)["totals"]
    columns = {"size": "allocated", "present": "present", "swapped": "swapped"}
    for profile in found["profiles"]:
        assert sum(profile["weights"]) == totals[columns[profile["name"]]]
    (profile,) = (each for each in found["profiles"] if each["name"] == "present")
    sums = {}
    for stack, size in zip(profile["samples"], profile["weights"], strict=True):
        lines = tuple(frames[at] for at in stack if frames[at][0] not in ("ones", "zeros"))
        sums[lines] = sums.get(lines, 0) + size
    # numpy keeps a few bytes beside an array
    main = "<module>", 13
    assert sums[main, ("both", 11), ("reserve", 5)] // MIB == 64
    assert sums[main, ("both", 11), ("load", 8)] // MIB == 32
    assert sums[main, ("load", 8)] // MIB == 32


def test_collapsed(program, tmp_path):
    path = tmp_path / "memory.folded"
    assert memray(*program, "--flamegraph", path).returncode == 0
    sizes = [int(line.rpartition(" ")[2]) for line in path.read_text().splitlines()]
    assert sum(sizes) == whole(program)["totals"]["present"]
    line = re.compile(r"^<module> \(.*program\.py:13\);both \(.*:11\);load \(.*:8\)", re.MULTILINE)
    assert line.search(path.read_text())


def test_pprof(program, tmp_path):
    """What go's pprof sums by function."""
    pytest.importorskip("google.protobuf")
    need(shutil.which("go"), "go (Debian's package golang-go)")
    path = tmp_path / "memory.pb.gz"
    assert memray(*program, "--pprof", path).returncode == 0
    for index, wanted in (("space", {"reserve": 1024, "load": 64, "both": 1056}),
                          ("resident_space", {"reserve": 64, "load": 64, "both": 96})):  # fmt: skip
        words = ["-top", "-cum", "-unit=MB", "-symbolize=none", f"-sample_index={index}"]
        done = subprocess.run(
            ["go", "tool", "pprof", *words, path],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"HOME": str(tmp_path)},
        )
        found = re.findall(r" ([\d.]+)MB +[\d.]+%  (\w+)$", done.stdout, re.MULTILINE)
        sums = {name: float(size) for size, name in found}
        assert {name: sums[name] for name in wanted} == pytest.approx(wanted, abs=0.1)


@pytest.mark.parametrize("option", ["--pprof", "--flamegraph"])
def test_on_standard_output(program, option):
    """The profile alone."""
    if option == "--pprof":
        pytest.importorskip("google.protobuf")
    done = subprocess.run(
        [*COMMAND, "memray", *map(str, program), option, "-"], stdout=subprocess.PIPE, check=True
    )
    assert done.stdout.startswith(b"\x1f\x8b" if option == "--pprof" else b'{"$schema"')
    assert b"allocations alive" not in done.stdout


def test_mistakes(program, tmp_path):
    capture, pid = program
    other = tmp_path / "other"
    shutil.copyfile(capture, other)
    for arguments, code, words in [
        ([tmp_path / "nothing", pid], 1, "nothing"),
        ([other, pid], 1, "memray does not record it at this moment into"),
        ([os.path.realpath(f"/proc/{pid}/exe"), pid], 1, "does not look like"),
        ([capture, os.getpid()], 1, "memray does not record it at this moment into"),
        ([capture, 999_999_999], 1, "no such process"),
        ([capture, pid, "--pprof", "-", "--flamegraph", "-"], 2, "one of them"),
        ([capture, pid, "--flamegraph", tmp_path / "nowhere" / "x.json"], 1, "nowhere"),
    ]:
        done = memray(*arguments)
        assert (done.returncode, done.stdout) == (code, "")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


def test_aggregated(tmp_path, write_program):
    """Such a file is written at the end, and has no addresses."""
    with recorded(tmp_path / "capture", write_program(PROGRAM), "--aggregate") as process:
        done = memray(tmp_path / "capture", process.pid)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1


def test_damaged(tmp_path, write_program):
    """What memray cannot read is said in a line: a name that is no text, a file that was cut."""
    path = tmp_path / "capture"
    with recorded(path, write_program(PROGRAM)) as process:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        content = path.read_bytes()
        with open(path, "r+b") as file:
            file.write(content.replace(b"program.py", b"\xffrogram.py"))
        said = [memray(path, process.pid)]
        for size in (100, 0):
            os.truncate(path, size)
            said.append(memray(path, process.pid))
    for done in said:
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert done.stderr.startswith(f"fastpagemap: {path}")


PAGED_OUT = """import ctypes, mmap, sys
import swap

def load():
    memory = mmap.mmap(-1, 8 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[:] = bytes([1]) * len(memory)
    return memory

kept = load()
start = ctypes.addressof(ctypes.c_char.from_buffer(kept))
swap.pageout(start, start + (2 << 20))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.root
@pytest.mark.usefixtures("any_swap")
def test_swapped(tmp_path, write_program):
    path = tmp_path / "memory.json"
    with recorded(tmp_path / "capture", write_program(PAGED_OUT)) as process:
        done = memray(tmp_path / "capture", process.pid, "--flamegraph", path)
    assert row_of(done, "memory = mmap")[:3] == ["8Mi", "6Mi", "2Mi"]
    found = json.loads(path.read_text())
    sizes = {each["name"]: dict(zip(map(tuple, each["samples"]), each["weights"], strict=True))
             for each in found["profiles"]}  # fmt: skip
    ((stack, size),) = ((key, size) for key, size in sizes["swapped"].items() if size)
    assert size == 2 * MIB
    assert [found["shared"]["frames"][at]["name"] for at in stack] == ["<module>", "load"]
    assert (sizes["size"][stack], sizes["present"][stack]) == (8 * MIB, 6 * MIB)


FORKING = """import os, sys
if os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
print("ready", flush=True)
sys.stdin.read()
"""


def test_forked(tmp_path, write_program):
    """A child maps its parent's file as well, and is not what is recorded in it."""
    with recorded(tmp_path / "capture", write_program(FORKING)) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        said = [memray(tmp_path / "capture", pid) for pid in (process.pid, *children)]
    assert [done.returncode for done in said] == [0, 1]
    assert f"is of process {process.pid}, " in said[1].stderr


def test_locked(program):
    """A process that keeps its memory locked is given up."""
    with Locked() as process:
        process.lock()
        done = memray(program[0], process.pid, "--timeout", 0.5)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no answer within 0.5 s" in done.stderr


@pytest.mark.parametrize("module", ["memray", "google.protobuf"])
def test_without(module):
    """Said before anything is read."""
    words = ["memray", "/nowhere", str(os.getpid()), "--pprof", "/nowhere/x.pb.gz"]
    code = f"import sys; sys.modules[{module!r}] = None; from fastpagemap.cli import main"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; sys.exit(main({words!r}))"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    name, extra = {"memray": ("memray", "memray")}.get(module, ("protobuf", "profiles"))
    assert (
        done.stderr == f"fastpagemap: {name} is not installed: pip install 'fastpagemap[{extra}]'\n"
    )
