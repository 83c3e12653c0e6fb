"""The chart of the README, drawn from what the last run measured.

python benchmarks/chart.py [FILE]
"""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

import rivals
from bench_layouts import NAMES
from lab import BUILD, readable

RESULTS = BUILD / "results.json"


class Style(NamedTuple):
    """How one contender is drawn; the colours are Okabe and Ito's, told apart by all eyes."""

    label: str
    colour: str
    marker: str


STYLES = {
    "present(out=)": Style("fastpagemap: present", "#0072B2", "o"),
    "masks": Style("fastpagemap: masks", "#56B4E9", "o"),
    rivals.PREAD: Style("C loop of preads", "#000000", "|"),
    rivals.NUMPY: Style("numpy recipe", "#E69F00", "s"),
    rivals.ROLLUP: Style("smaps_rollup", "#009E73", "D"),
    rivals.PAGE_TYPES: Style("page-types", "#CC79A7", "^"),
    rivals.PAGEMAP: Style("pagemap 0.1.1", "#D55E00", "X"),
}
TIMES = ("1 µs", "10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s", "10 s")


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw both panels."""
    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(12, 5.2), width_ratios=(1.25, 1), layout="constrained"
    )
    layouts(left, results["costs"], results["size"])
    growth(right, results["curves"])
    handles = [
        Line2D([], [], color=style.colour, marker=style.marker, linestyle="", label=style.label,
               markersize=8, markeredgewidth=2 if style.marker == "|" else 1)
        for style in STYLES.values()
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False,
                  handletextpad=0.1, columnspacing=1.2)  # fmt: skip
    figure.savefig(path, dpi=130, facecolor="white")
    plt.close(figure)


def layouts(axes: Axes, costs: dict[str, dict[str, float]], size: int) -> None:
    """Draw ns a page, a row a layout."""
    names = [name for name in NAMES if name in costs]
    for row, name in enumerate(reversed(names)):
        axes.axhline(row, color="0.9", zorder=0)
        for who, style in STYLES.items():
            if who in costs[name]:
                large = {"s": 14, "mew": 2.5} if style.marker == "|" else {"s": 8, "mew": 0.6}
                axes.plot(
                    costs[name][who], row, style.marker, color=style.colour,
                    markersize=large["s"], markeredgewidth=large["mew"],
                    markeredgecolor=style.colour if style.marker == "|" else "white",
                    zorder=4 if who == "present(out=)" else 3,
                )  # fmt: skip
    axes.set_yticks(range(len(names)), [NAMES[name] for name in reversed(names)])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(axis="x", color="0.92")
    axes.set_axisbelow(True)
    axes.set_xlabel("nanoseconds a page (less is better)")
    axes.set_title(f"{readable(size)} of each kind of memory", loc="left", fontweight="bold")


def growth(axes: Axes, curves: dict[str, list[tuple[int, float]]]) -> None:
    """Draw seconds by size."""
    for who, style in STYLES.items():
        if who in curves:
            sizes, seconds = zip(*curves[who], strict=True)
            marker = "" if style.marker == "|" else style.marker
            axes.plot(sizes, seconds, color=style.colour, marker=marker, markersize=6,
                      markeredgecolor="white", markeredgewidth=0.6,
                      linewidth=2.2 if who == "present(out=)" else 1.4)  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = sorted({size for curve in curves.values() for size, _ in curve})
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: readable(value)))
    plt.setp(axes.get_xticklabels(), rotation=35, ha="right", rotation_mode="anchor")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(FixedLocator([10.0 ** (i - 6) for i in range(len(TIMES))]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda _, i: TIMES[i]))
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.set_title("4 KiB pages, all touched: time by size", loc="left", fontweight="bold")


if __name__ == "__main__":
    draw(
        json.loads(RESULTS.read_text()), Path(sys.argv[1]) if sys.argv[1:] else BUILD / "chart.png"
    )
