"""The command line: what it prints in a pipe and on a terminal, and how it fails."""

import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from fcntl import ioctl

import numpy as np
import pytest

import fastpagemap as fpm
from commandline import COMMAND, run
from fastpagemap.report.report import About, of_mappings
from fastpagemap.report.tables import plain
from fastpagemap.report.text import human, printable
from victim import Victim

pytest.importorskip("click")
pytest.importorskip("rich")

#: A busy machine may need many times as long as a quiet one; what hangs fails all the same.
PATIENCE_S = 240
COLUMNS = ("size", "present", "swapped", "swapped_shared", "unknown", "shared", "exclusive", "huge")
COLUMNS += ("zero",)


def on_terminal(*arguments, width):
    """What the command writes on a terminal of this width, its colours taken out."""
    leader, follower = pty.openpty()
    ioctl(follower, termios.TIOCSWINSZ, struct.pack("4H", 50, width, 0, 0))
    # The environment as Python knows it: the C library's has COLUMNS once readline is loaded.
    command = [*COMMAND, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=follower, env=dict(os.environ))
    os.close(follower)
    written = b""
    try:
        while chunk := os.read(leader, 1 << 16):
            written += chunk
    except OSError:  # EIO: the other end is closed
        pass
    os.close(leader)
    assert process.wait() == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", written.decode()).replace("\r", "").splitlines()


def made_up(path="/lib/a.so", columns=COLUMNS, value=4096):
    mapping = fpm.Mapping(0x7F0000000000, 0x7F0000001000, "r-xp", 0, 1, 2, path)
    usage = np.full(1, value, [(name, np.uint64) for name in ("start", "end", *columns)])
    return of_mappings(About(1, "name", 0.0, "6.18", 4096), [mapping], usage)


@pytest.fixture(scope="module")
def victim():
    with Victim() as victim:
        victim.make("shared_anonymous", 20)
        yield victim


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0"),
        (1023, "1023"),
        (4096, "4Ki"),
        (1536, "1.5Ki"),
        (100 * 1024 - 1, "100Ki"),
        (1024**2 - 1, "1Mi"),
        (1024**2, "1Mi"),
        (int(99.94 * 1024**3), "99.9Gi"),
        (1023 * 1024**3, "1023Gi"),
        (1 << 47, "128Ti"),
        ((1 << 64) - 1, "16Ei"),
    ],
)
def test_sizes(size, text):
    assert human(size) == text


def test_no_size_is_wider_than_six():
    sizes = {int(2 ** (bits / 7)) + d for bits in range(64 * 7) for d in (-1, 0, 1)}
    assert max(len(human(size)) for size in sizes) == 6


def test_what_a_terminal_would_obey_is_escaped():
    assert printable("[red]\x1b[31m\n\x7f\udcff\u202e é") == (r"[red]\x1b[31m\n\x7f\xff\u202e é")


def test_a_pipe_gets_the_same_widths_and_the_whole_path():
    path = "/a b/[heap]\n" + "x" * 300
    about, header, row, total = plain(made_up(path))
    assert about.startswith("# process 1 name, ")
    assert about.endswith(", Linux 6.18")
    small = list(plain(made_up("", value=0)))[2]
    assert row.endswith("  " + printable(path))
    assert row.split()[:5] == ["00007f0000000000", "00007f0000001000", "r-xp", "4Ki", "4Ki"]
    assert header.split() == ["start", "end", "perms", *COLUMNS, "path"]
    assert header.index("path") == row.index("/a b") == total.index("1 mapping")
    assert small.index("[anon]") == header.index("path")


def test_columns_that_are_absent_are_not_drawn():
    assert "soft_dirty" not in list(plain(made_up()))[1]
    assert "soft_dirty" in list(plain(made_up(columns=("size", "soft_dirty"))))[1]


@pytest.mark.parametrize("width", [10, 20, 40, 80, 120, 200])
def test_a_terminal_line_is_never_too_wide(victim, width):
    lines = on_terminal("report", victim.pid, width=width)
    assert max(map(len, lines)) <= width
    assert sum("r-xp" in line for line in lines) > 3 or width < 60
    assert any(line.lstrip().startswith("total") for line in lines) or width < 40
    assert any(re.search(r"\b\d+ map", line) for line in lines)


def test_what_is_left_out_of_a_narrow_terminal_is_named(victim):
    text = "\n".join(on_terminal(victim.pid, width=60))
    for name in fpm.PageMap(victim.pid).usage().dtype.names[2:]:
        assert name.rpartition("_")[2] in text


def test_report_is_what_a_bare_pid_means(victim):
    assert steady(run(victim.pid)) == steady(run("report", victim.pid))


def steady(said):
    """The fields of a report, but for those that change as other processes come and go."""
    _, header, *rows = (line.split() for line in said.stdout.decode().splitlines())
    column = header.index("exclusive")
    assert rows
    return [row[:column] + row[column + 1 :] for row in (header, *rows)]


def test_totals_are_those_of_usage(victim):
    usage = fpm.PageMap(victim.pid).usage()
    _, header, *_, total = run(victim.pid).stdout.decode().splitlines()
    sums = dict(zip(header.split(), total.split(), strict=False))
    for name in set(usage.dtype.names[2:]) - {"exclusive"}:
        assert sums[name] == human(int(usage[name].sum()))
    rows = fpm.PageMap(victim.pid).usage(fields=["exclusive", "present"])
    assert sums["exclusive"] != "0"
    assert (rows["exclusive"] <= rows["present"]).all()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["reprot"],
        ["0"],
        ["-1"],
        ["map", "1", "2"],
        ["report"],
        ["report", "-1"],
        ["report", ""],
        ["report", "1", "--all"],
        ["report", "1", "--sort", "colour"],
        ["report", "1", "--min", "much"],
        ["report", "1", "--filter", "colour>1"],
        ["report", "1", "--group", "size"],
        ["report", "1", "--json", "--parquet", "x"],
        ["report", "1", "--start", "1000"],
        ["report", "1", "--timeout", "nan"],
        ["completion", "tcsh"],
    ],
)
def test_misuse_is_one_line_and_exit_code_2(arguments):
    answer = run(*arguments)
    assert (answer.returncode, answer.stdout) == (2, b"")
    assert answer.stderr.startswith(b"fastpagemap: ")
    assert answer.stderr.count(b"\n") == 1


@pytest.mark.parametrize("pid", [2, 999_999_999])
def test_failure_is_one_line_and_exit_code_1(pid):
    answer = run(pid)
    assert (answer.returncode, answer.stdout) == (1, b"")
    assert answer.stderr.count(b"\n") == 1


MISSING = {
    "click": ("cli", ["1"]),
    "pyarrow": ("arrow", ["report", str(os.getpid()), "--parquet", "never.parquet"]),
    "matplotlib": ("plot", ["map", str(os.getpid()), "-o", "never.png"]),
}


@pytest.mark.parametrize("module", MISSING)
def test_a_missing_extra_is_named(module, tmp_path):
    extra, arguments = MISSING[module]
    program = f"import sys; sys.modules['{module}'] = None; import fastpagemap.cli as c"
    answer = subprocess.run(
        [sys.executable, "-c", f"{program}; sys.exit(c.main({arguments}))"],
        capture_output=True,
        cwd=tmp_path,
    )
    assert answer.returncode == 1
    assert f"pip install 'fastpagemap[{extra}]'".encode() in answer.stderr
    assert answer.stderr.count(b"\n") == 1
    assert not os.listdir(tmp_path)


def test_a_reader_that_leaves_is_no_error(victim):
    command = [*COMMAND, str(victim.pid)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_full_disk_is_said(victim):
    with open("/dev/full", "w") as full:
        answer = subprocess.run([*COMMAND, str(victim.pid)], stdout=full, stderr=subprocess.PIPE)
    assert answer.returncode == 1
    assert answer.stderr == b"fastpagemap: cannot write the answer: No space left on device\n"


@pytest.mark.usefixtures("_ctrl_c")
def test_ctrl_c_is_quiet():
    """Pressed while it waits, here for a snapshot that comes through a pipe."""
    command, pipe = [*COMMAND, "report", "/dev/stdin"], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            process.stdin.write(b"PK" + bytes(1 << 18))  # more than a pipe holds: it is being read
            process.stdin.flush()
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE_S)
            said = process.stdout.read(), process.stderr.read()
        finally:
            process.kill()
    assert (*said, process.returncode) == (b"", b"", 130)


@pytest.mark.usefixtures("_ctrl_c")
def test_ctrl_c_in_a_destructor_is_not_lost(tmp_path):
    """Python raises it there, can only ignore it, and would say so, and wait for the pipe."""
    program = """
import signal, sys
import fastpagemap, fastpagemap.cli
class Destroyed:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
def press_when_called(frame, event, _):
    if event == "call" and frame.f_code is fastpagemap.Snapshot.load.__code__:
        sys.setprofile(None)
        Destroyed()
sys.setprofile(press_when_called)
sys.exit(fastpagemap.cli.main(["report", sys.argv[1]]))
"""
    os.mkfifo(tmp_path / "pipe")
    command = [sys.executable, "-c", program, tmp_path / "pipe"]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S)
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"", 130)


@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize("then", ["pass", "raise ImportError('what numpy says') from None"])
def test_ctrl_c_while_something_else_is_imported(then):
    """What is imported may ignore it, or make an error of its own of it, as numpy does."""
    program = f"""
import signal, sys
class Finder:
    def find_spec(name, path, target=None):
        if name == "numpy":
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                {then}
sys.meta_path.insert(0, Finder)
import _fastpagemap_main
sys.argv = ["fastpagemap", "doctor"]
sys.exit(_fastpagemap_main.main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=PATIENCE_S)
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"", 130)
