"""What people type who know ps, pmap, smem, top or git: one line says what to type here."""

import json
import os
import re
import shlex
import shutil
import subprocess

import pytest

import fastpagemap as fpm
from commandline import COMMAND, run
from namesakes import namesakes

pytest.importorskip("click")

HERE = str(os.getpid())


def complaint(*arguments, **options):
    """The one line that is said, and where there is more to read."""
    said = run(*arguments, **options)
    assert (said.returncode, said.stdout) == (2, b"")
    found = re.fullmatch(r"fastpagemap: (.*) \(see '(.*) --help'\)\n", said.stderr.decode())
    return found.groups()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "say a process or a command, such as 'fastpagemap 1234' or 'fastpagemap top'"),
        (["-p", HERE], "No such option '-p': the id of a process stands alone"),
        (["report", "--pid", HERE], "No such option '--pid': the id of a process stands alone"),
        (["-X", HERE], "No such option '-X': here it is --columns"),
        (["--all", "-s", "swap"], "No such option '-s': here it is --sort"),
        (["--all", "--limit", "3"], "No such option '--limit': here it is -n"),
        (["forks", HERE, "-n", "3"], "No such option '-n': here it is --limit"),
        (["top", "-d", "1"], "No such option '-d': here it is --interval"),
        (["doctor", "-d"], "No such option '-d'"),
        (["top", "--filter", "x"], "No such option '--filter'"),
        ([HERE, "--grup", "kind"], "No such option '--grup'; did you mean '--group'?"),
        ([HERE, "-n", "0"], "Invalid value for '-n': 0 is not in the range x>=1"),
        (["map"], "Missing argument 'TARGET'"),
        (["--all", HERE], "a TARGET or --all: one of them"),
        ([f"/proc/{HERE}"], f"/proc/{HERE} is of process {HERE}: say {HERE}"),
        ([f"/proc/{HERE}/smaps"], f"/proc/{HERE}/smaps is of process {HERE}: say {HERE}"),
    ],
)
def test_misuse_says_what_to_type(arguments, text):
    assert complaint(*arguments)[0] == text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--sort", "-present"], "no column '-present'; did you mean 'present'?"),
        (["--sort", "VSZ"], "no column 'VSZ'; did you mean 'size'?"),
        (["--sort", "rss"], "no column 'rss' here: rss is 'present' here; there are size, "),
    ],
)
def test_columns_as_others_call_them(arguments, text):
    assert text in complaint("--all", *arguments)[0]


def test_help_and_version_as_elsewhere():
    for words, same in (
        (["help"], ["--help"]),
        (["help", "map"], ["map", "--help"]),
        (["-V"], ["--version"]),
    ):
        said = run(*words)
        assert (said.returncode, said.stderr) == (0, b"")
        assert said.stdout == run(*same).stdout
    assert complaint("help", "mpa")[0].endswith("did you mean 'map'?")


def test_a_name_that_is_only_begun(tmp_path):
    """'redis' is not spelled much like 'redis-server', but begins it."""
    word = f"x{os.getpid() % 100_000}"
    name = f"{word}-service-x"[:15]
    shutil.copy(shutil.which("sleep"), tmp_path / name)
    with subprocess.Popen([tmp_path / name, "600"]) as process:
        said = run(word)
        process.kill()
    assert said.returncode == 1
    assert f"did you mean {name}?" in said.stderr.decode()


@pytest.mark.parametrize("word", [".", ".."])
def test_a_directory_is_no_word_of_a_command_line(word, tmp_path):
    """As 'grep -r word .' has one."""
    with namesakes(tmp_path) as start:
        start(word)
        said = run(word)
    assert (said.returncode, said.stderr) == (1, f"fastpagemap: Is a directory: {word}\n".encode())


@pytest.mark.root
def test_who_led_to_the_command_is_no_process_of_a_name():
    """The name is in the command line of the shell."""
    words = shlex.join([*COMMAND, "report", "--who", HERE, "--name", "a-rare-word", "--json"])
    said = subprocess.run(["sh", "-c", f"{words}; exit $?"], capture_output=True, check=True)
    assert json.loads(said.stdout)["rows"] == []


def test_snapshots_in_the_wrong_order_are_named(tmp_path):
    with fpm.PageMap() as pagemap:
        for name in ("a.fpm", "b.fpm"):
            pagemap.snapshot().save(tmp_path / name)
    assert run("diff", "a.fpm", "b.fpm", cwd=tmp_path).stderr == b""
    said = run("diff", "b.fpm", "a.fpm", cwd=tmp_path)
    text = b"BEFORE is later than AFTER; 'fastpagemap diff a.fpm b.fpm' shows what changed"
    assert (said.returncode, said.stderr) == (0, b"fastpagemap: " + text + b"\n")


@pytest.mark.parametrize("command", [[], ["report"], ["top"]])
def test_help_is_whole_where_python_drops_docstrings(command):
    """PYTHONOPTIMIZE=2 is the same as python -OO."""
    whole = run(*command, "--help").stdout
    said = run(*command, "--help", env=os.environ | {"PYTHONOPTIMIZE": "2"})
    assert (said.returncode, said.stdout) == (0, whole)
