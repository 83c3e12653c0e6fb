"""`fastpagemap report --all --openmetrics`: next to the JSON of the same, and to promtool."""

import json
import os
import shutil
import stat
import subprocess
import sys

import pytest

import cgroups
import linux
from commandline import COMMAND, run
from locked import Locked
from namesakes import NAME, namesakes
from needs import need

pytest.importorskip("click")
pytest.importorskip("prometheus_client")

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from scraping import MEMORY, ODD_NAMES, PROCESSES, sleepers

ALL = ("report", "--all", "--name", NAME)
MEMTYPES = {"size": "virtual", "present": "resident"}


@pytest.fixture(autouse=True)
def started(tmp_path):
    """Three processes of one name, which nothing else has."""
    with namesakes(tmp_path) as start:
        yield [start("sleep").pid for _ in range(3)]


def samples(text):
    """The values by metric and labels; the text is OpenMetrics, to its last line."""
    found = text_string_to_metric_families(text.decode())
    return {
        (each.name, *each.labels.values()): each.value
        for family in found
        for each in family.samples
    }


def metrics(*arguments):
    said = run(*ALL, "--openmetrics", "-", *arguments)
    assert (said.returncode, said.stderr) == (0, b"")
    return samples(said.stdout)


def test_the_sums_of_a_report(started):
    found = metrics()
    totals = json.loads(run(*ALL, "--json").stdout)["totals"]
    sizes = {key[2]: value for key, value in found.items() if key[0] == MEMORY}
    wanted = {"size", "present", "swapped", "swapped_shared", "unknown", "huge"}
    assert sizes == {MEMTYPES.get(name, name): totals[name] for name in wanted & totals.keys()}
    assert found[PROCESSES, NAME] == len(started)
    assert found["fastpagemap_unreadable_processes",] == 0


def test_columns_that_are_named():
    sizes = {
        key[2]: size for key, size in metrics("--columns", "uss,present,pss").items() if key[2:]
    }
    assert 0 < sizes["uss"] < sizes["proportionalResident"] < sizes["resident"]
    assert len(sizes) == 3


def test_rows_are_chosen_as_in_a_table():
    assert (PROCESSES, NAME) not in metrics("--min", "1T")
    assert metrics("--min", "present=1")[PROCESSES, NAME] == 3


def test_n_is_the_number_of_groups():
    said = run("report", "--all", "--openmetrics", "-", "-n", "1")
    groups = [key[1] for key in samples(said.stdout) if key[0].endswith("num_procs")]
    assert len(groups) == 2
    assert "other" in groups


@pytest.mark.root
def test_by_unit_and_by_cgroup(started):
    unit = f"test-{os.getpid()}.service"
    with cgroups.unit(unit) as path:
        linux.write_text(f"{path}/cgroup.procs", started[0])
        by_unit = metrics("--by", "unit")
        groups = {key[1] for key in metrics("--by", "cgroup") if key[0] == MEMORY}
        linux.write_text(f"{os.path.dirname(path)}/cgroup.procs", started[0])
    assert by_unit[PROCESSES, unit] == 1
    assert all(group.startswith("/") for group in groups)


def test_a_file_for_the_textfile_directory(tmp_path):
    """Another user, as node_exporter is, may read it, whoever's processes it tells of."""
    path = tmp_path / "memory.prom"
    before = os.umask(0o022)
    try:
        said = run(*ALL, "--openmetrics", path)
    finally:
        os.umask(before)
    assert (said.returncode, said.stdout, said.stderr) == (0, b"", b"")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    text = path.read_bytes()
    assert samples(text).keys() == metrics().keys()
    # node_exporter takes no file in which a line has a time
    assert all(len(line.rsplit("} ")[-1].split()) <= 2 for line in text.decode().splitlines()
               if not line.startswith("#"))  # fmt: skip


def test_names_of_any_bytes(tmp_path):
    """No name ends a line; on standard output as in a file."""
    path = tmp_path / "memory.prom"
    with sleepers(tmp_path, *ODD_NAMES):
        printed = run("report", "--all", "-n", "100000", "--openmetrics", "-").stdout
        run("report", "--all", "-n", "100000", "--openmetrics", path)
    for text in (printed, path.read_bytes()):
        groups = {key[1] for key in samples(text) if key[0] == PROCESSES}
        assert groups >= set(ODD_NAMES.values())


def test_promtool_finds_nothing_wrong(tmp_path):
    need(shutil.which("promtool"), "promtool (Debian's package prometheus)")
    with sleepers(tmp_path, *ODD_NAMES):
        text = run("report", "--all", "--openmetrics", "-").stdout
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "memory.prom"
    path.write_text("old")
    for wrong, why in (("/dev/full", b"No space left"), (tmp_path / "no/x", b"No such file")):
        said = run(*ALL, "--openmetrics", wrong)
        assert (said.returncode, said.stdout, said.stderr.count(b"\n")) == (1, b"", 1)
        assert why in said.stderr
    limited = ["sh", "-c", 'ulimit -f 1; exec "$@"', "sh"]
    command = [*COMMAND, *ALL, "--openmetrics", str(path)]
    done = subprocess.run([*limited, *command], capture_output=True)
    assert done.returncode == 1
    assert b"File too large" in done.stderr
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir() if each.name.endswith(".prom")] == [path.name]


def test_one_that_is_locked_is_given_up():
    with Locked(name="it-is-locked") as locked:
        locked.lock()
        said = run("report", "--all", "--timeout", "0.5", "--openmetrics", "-", timeout=120)
        assert said.returncode == 0
        found = samples(said.stdout)
    assert found["fastpagemap_unreadable_processes",] >= 1
    assert found[PROCESSES, NAME] == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["1", "--openmetrics", "-"],
        ["--all", "--by", "name"],
        ["--all", "--openmetrics", "-", "--json"],
        ["--all", "--openmetrics", "-", "--parquet", "-"],
        ["--all", "--openmetrics", "-", "--group", "kind"],
        ["--all", "--openmetrics", "-", "--sort", "present"],
        ["--swap", "--openmetrics", "-"],
        ["--tree", "1", "--openmetrics", "-"],
    ],
)
def test_misuse(arguments):
    said = run("report", *arguments)
    assert (said.returncode, said.stdout, said.stderr.count(b"\n")) == (2, b"", 1)


def test_what_is_needed_is_said():
    program = """import sys
sys.modules["prometheus_client"] = None
import fastpagemap.metrics"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'fastpagemap[metrics]'" in done.stderr
