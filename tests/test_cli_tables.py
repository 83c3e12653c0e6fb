"""What tables say beside their sizes: of what and when they are, and names for what has none."""

import csv
import io
import json
import os
import re
import time

import pytest

from commandline import run
from victim import Victim

pytest.importorskip("click")


@pytest.fixture(scope="module")
def victim():
    with Victim() as victim:
        victim.make("sparse", 100)
        yield victim


def test_a_pipe_is_told_of_what_and_when(victim):
    about, head, *_ = run("report", victim.pid).stdout.decode().splitlines()
    found = re.fullmatch(rf"# process {victim.pid} (\S+), ([-0-9]+ [:0-9]+), Linux (\S+)", about)
    assert found is not None
    with open(f"/proc/{victim.pid}/comm") as file:
        assert (found[1], found[3]) == (file.read().strip(), os.uname().release)
    assert abs(time.mktime(time.strptime(found[2], "%Y-%m-%d %H:%M:%S")) - time.time()) < 300
    assert head.split()[0] == "start"
    about = run("report", "--all").stdout.decode().splitlines()[0]
    assert about.startswith("# all processes, ")
    assert about.endswith(f", Linux {found[3]}")


def test_a_saved_one_is_as_it_was(victim, tmp_path):
    assert run("dump", victim.pid, "-o", tmp_path / "before.fpm").returncode == 0
    about = run("report", tmp_path / "before.fpm").stdout.decode().splitlines()[0]
    assert re.fullmatch(
        rf"# process {victim.pid} \S+, as it was at [-0-9]+ [:0-9]+, Linux \S+", about
    )


def test_data_has_no_comment_and_no_made_up_names(victim):
    rows = list(csv.DictReader(io.StringIO(run("report", victim.pid, "--csv").stdout.decode())))
    assert {"", "[heap]"} <= {row["path"] for row in rows}
    paths = [row["path"] for row in json.loads(run("report", victim.pid, "--json").stdout)["rows"]]
    assert "" in paths
    assert "[anon]" not in paths


@pytest.mark.parametrize("more", [[], ["--group", "path"]])
def test_what_has_no_path_has_a_name_in_tables(victim, more):
    lines = run("report", victim.pid, *more).stdout.decode().splitlines()
    named = [line for line in lines if line.endswith("  [anon]")]
    assert len(named) == 1 if more else len(named) > 1
    only = run("report", victim.pid, "--path", "[anon]", *more).stdout.decode().splitlines()
    assert only[2:-1]
    assert all(line.endswith("  [anon]") for line in only[2:-1])
