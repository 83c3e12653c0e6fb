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


def test_what_the_readme_shows(capsys):
    """Its first example as it stands, and those that go on from it."""
    text = (EXAMPLES.parent / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    names = {}
    for block in blocks:
        if "WriteTracker" in block and not fpm.capabilities().userfaultfd_wp_async:
            continue
        if "AccessTracker" in block and not fpm.capabilities().userfaultfd_rwp_async:
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


def test_what_docs_words_names():
    """Each name of Python's in the glossary is one."""
    text = (EXAMPLES.parent / "docs/words.md").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 10
    with fpm.PageMap() as pm, fpm.Group([os.getpid()]) as group:
        columns = set(pm.usage(fields=["pss", "uss"]).dtype.names)
        columns |= {*pm.usage().dtype.names}
        found = {"usage": columns, "group": {*group.usage().dtype.names}}
        for *_, names in rows:
            for owner, name in re.findall(r"\b(pm|group)\.(\w+)", names):
                assert hasattr({"pm": pm, "group": group}[owner], name), name
            for owner, name in re.findall(r"(group)?\.?usage\(\)\[\"(\w+)", names):
                assert name in found[owner or "usage"], name


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
    for words in ((), ("name",), (victim.pid, "soon")):
        said = run("given_up.py", *words).stderr
        assert said == "usage: python examples/given_up.py PID [SECONDS]\n"
