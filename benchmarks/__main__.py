"""Every benchmark in one run: tables, what was reached of what is wanted, and the chart.

python benchmarks [--quick] [--realtime] [--size SIZE] [--markdown FILE] [QUESTION...]
"""

import argparse
import contextlib
import importlib
import json
import os
import platform
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab import (
    BUILD,
    FULL,
    HERE,
    MIB,
    QUICK,
    Result,
    Rows,
    Scale,
    bytes_of,
    load,
    readable,
    table,
    target,
)
from page_types import page_types

# the tests' maker of swap; benchmarks come first where both have a module of one name
sys.path.append(str(HERE.parent / "tests"))

#: one module each: bench_<question>.py
WITHOUT_SWAP = ("swapless", "soft_dirty", "frames", "group")
WITH_SWAP = (
    "goals",
    "layouts",
    "growth",
    "sparse",
    "mappings",
    "usage_of",
    "calls",
    "residency",
    "snapshot",
)
TRACKING = ("writes", "accesses")
POLITE = ("polite", "sampling")
COMMANDS = ("cli", "lists", "metrics", "record")
#: page-types, which is downloaded and built, is no part of these
ALONE = {"goals", "soft_dirty", *TRACKING}
QUESTIONS = (*WITHOUT_SWAP, *WITH_SWAP, *TRACKING, *POLITE, *COMMANDS)
#: above every other area, so that what is swapped here stays where it was put
PRIORITY = 32767


@contextlib.contextmanager
def swap(size: int) -> Iterator[None]:
    """Make swap for the while, and put a little of it to use; where that cannot be, say so."""
    with contextlib.ExitStack() as stack:
        try:
            from needs import Missing
            from swap import file_swap, zram_swap
        except ImportError as error:
            print(f"\nno swap is made: {error}")
        else:
            try:
                try:
                    stack.enter_context(zram_swap(size, PRIORITY))
                except Missing:
                    stack.enter_context(file_swap(size, PRIORITY))
            except Missing as missing:
                print(f"\nno swap is made, it takes {missing}")
        try:
            stack.enter_context(target("swapped 1", MIB))
        except RuntimeError:
            print("\nnothing is swapped: `swapped` is answered without looking at any page")
        yield


def measure(
    scale: Scale, wanted: list[str], page: Path | None
) -> tuple[list[Result], dict[str, Any]]:
    """Run the questions; return what was judged, and what the chart shows.

    `page` is the Markdown file that the table of goals goes into.
    """
    results: list[Result] = []
    shown: dict[str, Any] = {"size": scale.size}

    def ask(questions: tuple[str, ...]) -> None:
        for question in questions:
            if question in wanted:
                more = {"page": page} if question == "goals" else {}
                found = importlib.import_module(f"bench_{question}").run(scale, **more)
                if question == "layouts":
                    found, shown["costs"] = found
                if question == "growth":
                    shown["curves"] = found
                elif found:
                    results.extend(found)

    ask(WITHOUT_SWAP)
    if not set(WITH_SWAP).isdisjoint(wanted):
        with swap(scale.size // 2 + 64 * MIB):
            ask(WITH_SWAP)
    ask(TRACKING)
    ask(POLITE)
    ask(COMMANDS)
    return results, shown


def verdicts(results: list[Result]) -> None:
    """Print what fell short."""
    short = [result for result in results if result.verdict != "ok"]
    rows: Rows = [("", "what", "against", "is", "target", "")]
    for result in short:
        numbers = (f"{result.ratio:.3g}", f"{result.target:g}", result.verdict)
        rows.append((result.layout, result.what, result.against, *numbers))
    if short:
        table(f"{len(short)} of {len(results)} fall short", rows)
    elif results:
        print(f"\nall {len(results)} targets are reached")


def parsed() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="little memory, few rounds")
    parser.add_argument(
        "--realtime", action="store_true", help="before all other processes: on a busy machine"
    )
    parser.add_argument("--size", type=bytes_of, help="of each kind of memory: 512M, 4G")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="put the table of goals into it, too"
    )
    parser.add_argument("question", nargs="*", help=", ".join(QUESTIONS))
    options = parser.parse_args()
    if unknown := set(options.question) - set(QUESTIONS):
        parser.error(f"no such question: {', '.join(unknown)}")
    if options.markdown and "goals" not in (options.question or QUESTIONS):
        parser.error("--markdown: the table is that of the question `goals`")
    return options


def main() -> None:
    """Print every table; draw the chart if all that it shows was measured."""
    options = parsed()
    scale = QUICK if options.quick else FULL
    if options.size:
        scale = scale._replace(size=options.size)
    print(f"Linux {platform.release()}, {os.cpu_count()} processors, {load()}")
    # so that no swap is left behind
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    if options.realtime:
        # at most 95 % of the time: the kernel leaves some to the others
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    wanted = options.question or list(QUESTIONS)
    if not ALONE.issuperset(wanted) and isinstance(missing := page_types(), str):
        print(missing)
    results, shown = measure(scale, wanted, options.markdown)
    if options.quick:
        print(
            "\nthe targets are for the full run: here the fixed costs of a call outweigh the rest"
        )
    else:
        verdicts(results)
    print(f"\n{load()} at the end")
    if {"costs", "curves"} <= shown.keys():
        import chart

        BUILD.mkdir(parents=True, exist_ok=True)
        chart.RESULTS.write_text(json.dumps(shown))
        path = BUILD / "quick.png" if options.quick else HERE / "chart.png"
        chart.draw(shown, path)
        print(f"chart of {readable(scale.size)}: {path.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
