"""docs/tutorial.md, done as it says: its program, its commands in their order."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastpagemap.cli import main

TUTORIAL = Path(__file__).resolve().parent.parent / "docs/tutorial.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TUTORIAL.read_text(), re.DOTALL)


@pytest.fixture
def shelf(tmp_path):
    """The program of the tutorial, when it is ready."""
    (script,) = [block for block in blocks("sh") if "cat >" in block]
    subprocess.run(["sh", "-c", script], cwd=tmp_path, check=True)
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "shelf.py"], cwd=tmp_path, **pipes) as process:
        assert process.stdout.read(6) == b"ready:"
        yield process
        process.kill()


def press_enter(process):
    process.stdin.write(b"\n")
    process.stdin.flush()
    while b"changed:" not in process.stdout.read1():
        pass


def test_commands(shelf, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^\$ fastpagemap (.+)$", "".join(blocks("console")), re.MULTILINE)
    assert len(commands) > 7
    for command in commands:
        if command.startswith("diff"):
            press_enter(shelf)
        # by pid, as others may run a program of that name
        words = command.replace("shelf.py", str(shelf.pid)).split()
        capsys.readouterr()
        assert main(words) == 0, command
        said = capsys.readouterr()
        assert said.err == "", command
        if command.startswith("diff"):
            (row,) = [line.split() for line in said.out.splitlines() if "[anon]" in line]
            assert "32Mi" in row
    assert (tmp_path / "tutorial.png").stat().st_size > 10_000
