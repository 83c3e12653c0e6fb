"""The examples of other libraries' worker processes, run as they are."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from needs import Absent, need

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SIZE = 128  # MiB


def run(name, *arguments):
    """What an example says, as numbers of MiB by their names."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr  # on a busy machine dask complains there
    found = re.findall(r"^(\w+)(?: shows)? +(\d+) MiB, ", done.stdout, re.MULTILINE)
    return {name: int(size) for name, size in found}, done.stdout


def test_dask_workers():
    need(importlib.util.find_spec("distributed"), "dask's distributed")
    sizes, said = run("dask_workers.py", SIZE)
    assert sizes["rss"] >= 4 * SIZE
    assert sizes["rss"] == pytest.approx(sizes["dask"], rel=0.1)
    assert sizes["pss"] < sizes["rss"] - 2 * SIZE
    if os.geteuid():
        assert ("union" in sizes) != ("run it as root" in said)
        return
    assert sizes["union"] <= sizes["rss"] - 3 * SIZE  # a file is there once
    assert SIZE < sizes["unique"] <= sizes["union"]
    assert sizes["pss"] <= sizes["union"] + 1


def test_torch_loader():
    need(importlib.util.find_spec("torch"), "torch (too large for CI)", Absent)
    sizes, said = run("torch_loader.py", 400_000)
    whole = int(re.search(r"^list .* of (\d+) MiB$", said, re.MULTILINE)[1])
    assert whole // 2 < sizes["list"] < 2 * whole
    assert sizes["array"] < whole // 8
