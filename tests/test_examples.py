"""The recipes in examples/, run as they are: what they print is what happened."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import backed
import fastpagemap as fpm
from locked import Locked
from needs import Absent, need

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

WRITER = """
import sys, time
sys.path.insert(0, {tests!r})
import memory
made = memory.touched(1024)
print(flush=True)
for value in range(100000):
    made.write(0, 256, value=value % 256)
    time.sleep(0.02)
"""


def run(name, *arguments):
    return subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_pages_written():
    need(fpm.capabilities().userfaultfd_wp_async, "userfaultfd WP_ASYNC (Linux 6.7)", Absent)
    done = run("pages_written.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "assignments",
        "  pages written: 3, 500-504",
        "  rows on them:  6-7, 1000-1009",
        "scale(2000, 2001)",
        "  pages written: 1000",
        "  rows on them:  2000-2001",
    ]


def test_pages_written_copied(monkeypatch):
    """Its functions on another array: rows of no round size, and what was raised goes on."""
    need(fpm.capabilities().userfaultfd_wp_async, "userfaultfd WP_ASYNC (Linux 6.7)", Absent)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import pages_written

    array = np.ones((5000, 333))
    with pages_written.writes_to(array) as written:
        array[1234] = 2
        array[4000:4100:3] += 1
    told = pages_written.rows_on(array, written)
    changed = (array != 1).any(axis=1)
    assert told[changed].all()
    # by whole pages, so a row or two beside them; other objects share the first and last page
    assert not told[100:1230].any()
    assert not told[1240:3990].any()
    assert pages_written.runs(np.array([], int)) == "none"
    with pytest.raises(ZeroDivisionError), pages_written.writes_to(array) as written:
        array[2000] = 1 / 0
    assert isinstance(written, list)


def test_write_rate():
    command = [sys.executable, "-c", WRITER.format(tests=os.path.dirname(__file__))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline()
            done = run("write_rate.py", process.pid, "--interval", 0.5, "--count", 3)
        finally:
            process.kill()
    if not fpm.capabilities().soft_dirty:
        assert done.returncode == 1
        assert done.stdout == ""
        assert re.fullmatch(r"write_rate: .*CONFIG_MEM_SOFT_DIRTY.*\n", done.stderr)
        return
    assert (done.returncode, done.stderr) == (0, "")
    rates = re.findall(r"^ *[\d.]+ s +([\d.]+) MiB/s$", done.stdout, re.MULTILINE)
    assert len(rates) == 3
    # 256 pages at least each interval, of which there are two a second or a little less
    assert all(0.5 < float(rate) < 8 for rate in rates[1:])


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((99999999,), 1, "no such process"),
        ((), 2, "the following arguments are required: pid"),
        (("x",), 2, "invalid int value"),
        ((1, "--interval", "0"), 2, "--interval must be above 0"),
        ((-1,), 1, "a pid is a positive number"),
        ((0,), 1, "a pid is a positive number"),
    ],
)
def test_write_rate_says_what_is_wrong(arguments, code, said):
    done = run("write_rate.py", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_what_the_readme_shows(capsys):
    """Its first example as it stands, and those that go on from it."""
    text = (EXAMPLES.parent / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    names = {}
    for block in blocks:
        if "WriteTracker" in block and not fpm.capabilities().userfaultfd_wp_async:
            continue
        exec(block, names)
    said = capsys.readouterr().out
    assert "MiB of 128 MiB are in RAM" in said


@pytest.mark.root
def test_what_docs_sharing_shows(victim, capsys):
    """Each example as it stands, of a process with a worker, and of a file."""
    need(fpm.capabilities().scan, "PAGEMAP_SCAN (Linux 6.7)", Absent)
    victim.make("touched", 500)
    victim.fork()
    text = (EXAMPLES.parent / "docs/sharing.md").read_text()
    with tempfile.NamedTemporaryFile(dir=backed.disk_directory()) as file:
        file.write(bytes(1 << 20))
        file.flush()
        names = {"pid": victim.pid, "path": file.name}
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            exec(block, names)
    total = names["total"]
    assert total["unique"] >= 500 * fpm.PAGE_SIZE
    assert total["rss"] - total["union"] >= 500 * fpm.PAGE_SIZE
    assert len(names["folios"])
    assert names["counts"].any()
    assert "100% in the page cache, 0% mapped\n" in capsys.readouterr().out


def test_given_up(victim):
    done = run("given_up.py", victim.pid)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(rf"process {victim.pid}: \d+\.\d MiB in RAM, .+ MiB in swap\n", done.stdout)
    with Locked() as process:
        process.lock()
        done = run("given_up.py", process.pid, "1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"process {process.pid}: no answer within 1 s\n"
    assert "no such process" in run("given_up.py", 999_999_999).stderr
