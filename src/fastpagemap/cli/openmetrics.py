"""Print or write metrics of all processes, for ``fastpagemap report --all --openmetrics``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click

from fastpagemap.cli.completion import complete_file
from fastpagemap.report.report import Report
from fastpagemap.report.selection import Selection
from fastpagemap.snapshot.replace_file import replace_file

__all__ = ["check", "lines", "openmetrics_options", "wanted_for"]

Function = TypeVar("Function", bound=Callable[..., Any])


def openmetrics_options(function: Function) -> Function:
    """Add the options to a command."""
    by = click.option(
        "--by",
        type=click.Choice(["name", "cgroup", "unit"]),
        help="With --openmetrics: which processes to add up: those of one name (the default), of "
        "one cgroup, or of one systemd unit.",
    )
    path = click.option(
        "--openmetrics",
        metavar="FILE",
        shell_complete=complete_file,
        help="With --all: write metrics for Prometheus, for node_exporter's textfile directory "
        "(needs prometheus_client); '-' is standard output. -n says how many groups of processes "
        "have metrics of their own (default: 100); the rest is in 'other'.",
    )
    return path(by(function))


def check(options: dict[str, Any]) -> None:
    """Raise an error for options that do not go together."""
    if not options["openmetrics"]:
        if options["by"]:
            raise click.UsageError("--by goes with --openmetrics")
        return
    if not options["everyone"] or options["group"] or options["sort"]:
        raise click.UsageError("--openmetrics goes with --all, and not with --group or --sort")
    if options["form"] or options["parquet"]:
        raise click.UsageError("--openmetrics, --json, --csv or --parquet: one of them")


def wanted_for(wanted: Selection) -> Selection:
    """Return which rows to read: of all processes, with the columns that cost little."""
    from fastpagemap.metrics.reading import cheap_fields

    return wanted._replace(limit=None, columns=wanted.columns or cheap_fields())


def lines(report: Report, options: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of metrics, or write them to the file that is named."""
    from fastpagemap.report.openmetrics import DEFAULT_TOP, of_report, text

    names = [name or "" for name in report.labels[options["by"] or "name"]]
    found = text(of_report(report, names, options["limit"] or DEFAULT_TOP))
    if options["openmetrics"] == "-":
        yield from found.decode().splitlines()
        return
    # Sums of groups are this user's to publish: node_exporter is another user, and has to read it.
    with replace_file(options["openmetrics"], os.geteuid()) as file:
        file.write(found)
