"""A real Prometheus server asks the exporter, and answers queries."""

import contextlib
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest

import database
import fastpagemap as fpm
import prometheus
from namesakes import NAME, namesakes
from needs import need
from victim import Victim

prometheus_client = pytest.importorskip("prometheus_client")

from fastpagemap.metrics import Collector  # noqa: E402
from scraping import MEMORY, ODD_NAMES, PROCESSES, sleepers  # noqa: E402

DOCS = Path(__file__).resolve().parent.parent / "docs/metrics.md"


def test_a_server_scrapes_and_answers(tmp_path):
    # with less of a budget it takes minutes until all that runs on a busy machine was counted once
    exporter = prometheus.exporter("--top", "1000", "--budget", "1")
    with namesakes(tmp_path) as start, exporter as target:
        pids = [start("sleep").pid for _ in range(3)]
        with prometheus.server(target) as server:
            ((labels, count),) = server.answer(
                f'namedprocess_namegroup_num_procs{{groupname="{NAME}"}}'
            )
            assert (labels["job"], labels["instance"], count) == ("memory", target, 3)
            ((_, resident),) = server.answer(f'{MEMORY}{{groupname="{NAME}",memtype="resident"}}')
            assert resident == fpm.usage_of(pids, fields=["present"])["present"].sum()
            # how old it is: the same labels, so that what is too old can be left out
            ((_, pss),) = server.answer(
                f'{MEMORY}{{groupname="{NAME}",memtype="proportionalResident"}}'
                " and on (groupname, memtype) fastpagemap_memory_age_seconds < 600"
            )
            assert 0 < pss < resident
            assert server.answer("up == 1")
            queries = re.findall(r"^\n((?:    .+\n)+)\n", DOCS.read_text(), re.MULTILINE)
            assert len(queries) == 4
            for query in queries:
                server.ask(query)  # HTTP 400 if it is none


def test_a_server_takes_names_of_any_bytes(tmp_path):
    with (
        sleepers(tmp_path, *ODD_NAMES),
        prometheus.exporter("--budget", "0", "--top", "1000") as target,
        prometheus.server(target) as server,
    ):
        found = server.answer(PROCESSES)
    assert {labels["groupname"] for labels, _ in found} >= set(ODD_NAMES.values())


def test_promtool_finds_nothing_wrong(tmp_path):
    need(shutil.which("promtool"), "promtool (Debian's package prometheus)")
    with Victim(), sleepers(tmp_path, *ODD_NAMES), prometheus.exporter() as target:
        for _ in range(2):
            with urllib.request.urlopen(f"http://{target}/metrics") as answer:
                text = answer.read()
    own = [line for line in text.splitlines(keepends=True) if b"namedprocess" in line]
    own += [line for line in text.splitlines(keepends=True) if b"fastpagemap_" in line]
    done = subprocess.run(["promtool", "check", "metrics"], input=b"".join(own), check=False,
                          capture_output=True)  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.root
def test_the_swap_of_postgresql_counts_once(any_swap):
    """Each session maps the shared buffers, of which each counts what is in swap."""
    how = ("--username=postgres", "--tuples-only", "--no-align")
    with database.running() as postgres, contextlib.ExitStack() as stack:
        database.fill(postgres)
        for query in ("SELECT sum(abalance) FROM pgbench_accounts;", "SELECT 1;"):
            session = stack.enter_context(postgres.session("psql", *how))
            postgres.ask(session, query)  # the first one maps what is to be swapped
        database.page_out(postgres.processes())
        registry = prometheus_client.CollectorRegistry()
        registry.register(Collector(postgres.processes, budget=1))
        exporter, _ = prometheus_client.start_http_server(0, "127.0.0.1", registry)
        stack.callback(exporter.server_close)
        stack.callback(exporter.shutdown)
        with prometheus.server(f"127.0.0.1:{exporter.server_port}") as server:
            its = f'{MEMORY}{{groupname="postgres",memtype='
            ((_, once),) = server.answer(f'{its}"swapped_union"}}')
            ((_, sums),) = server.answer(f'{its}"swapped"}}')
        with fpm.Group(postgres.processes()) as group:
            total = group.total()
    assert once == pytest.approx(total["swapped_union"], rel=0.1)
    assert sums > 2 * once > 64 << 20
