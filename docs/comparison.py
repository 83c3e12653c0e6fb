"""Make the measured tables of docs/comparison.md: one process, and what each tool says of it.

As root, with Debian's procps and smem, and with psutil from PyPI:

    make comparison

It makes swap for the while, and builds page-types from Debian's kernel source if there is none.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

import fastpagemap as fpm
import oracle
from needs import Missing
from page_types import page_types
from swap import any_swap
from victim import Span, Victim, VictimError

PAGE = Path(__file__).with_suffix(".md")
BEGIN, END = "<!-- made: begin -->\n", "<!-- made: end -->"
SIZE, SWAP, MIB = 4 << 20, 128 << 20, 1 << 20


class Kind(NamedTuple):
    """Memory of ``SIZE`` bytes: what it is, its maker in tests/kinds.py, what is done to it."""

    label: str
    maker: str
    then: str = ""


KINDS = (
    Kind("private, written", "touched"),
    Kind("private, swapped out", "touched", "pageout"),
    Kind("private, only read: the zero page", "zero"),
    Kind("private, huge pages", "huge"),
    Kind("private, only read: the huge zero page", "huge_zero"),
    Kind("private, written, a quarter of it guard pages", "guarded"),
    Kind("shared anonymous, written", "shared_anonymous"),
    Kind("shared anonymous, swapped out", "shared_anonymous", "pageout"),
    Kind("SysV, swapped out", "sysv", "pageout"),
    Kind("tmpfs file, swapped out", "posix", "pageout"),
    Kind("tmpfs file, in RAM, not mapped by this process any more", "posix", "drop"),
    Kind("file on a disk, read", "file_shared"),
    Kind("hugetlb, written", "hugetlb"),
)


class Seen(NamedTuple):
    """What a tool says of memory, in bytes."""

    present: int
    swapped: int

    def __str__(self) -> str:
        named = zip(self, ("RAM", "swap"), strict=True)
        return ", ".join(f"{size / MIB:.3g} {name}" for size, name in named if size) or "0"


def by_fastpagemap(pid: int, span: Span) -> Seen:
    """Ask fastpagemap."""
    with fpm.PageMap(pid) as pm:
        masks = pm.present(span.start, span.end), pm.swapped(span.start, span.end)
    return Seen(*(int(mask.sum()) * fpm.PAGE_SIZE for mask in masks))


def by_entries(pid: int, span: Span) -> Seen:
    """Count bits 63 and 62, as whoever reads pagemap alone."""
    words = oracle.words(span.start, span.end, pid)
    return Seen(*(sum(word >> bit & 1 for word in words) * fpm.PAGE_SIZE for bit in (63, 62)))


def by_smaps(pid: int, span: Span) -> Seen:
    """Sum up Rss and Swap."""
    rows = [row for (at, _), row in oracle.smaps(pid).items() if span.start <= at < span.end]
    return Seen(*(sum(row[name] for row in rows) for name in ("Rss", "Swap")))


def by_psutil(pid: int, span: Span) -> Seen:
    """Sum up psutil's memory_maps."""
    maps = psutil.Process(pid).memory_maps(grouped=False)
    rows = [row for row in maps if span.start <= int(row.addr.split("-")[0], 16) < span.end]
    return Seen(sum(row.rss for row in rows), sum(row.swap for row in rows))


def by_pmap(pid: int, span: Span) -> Seen:
    """Sum up the columns Rss and Swap of pmap -X."""
    lines = printed("pmap", "-X", str(pid)).splitlines()
    [head] = [line.split() for line in lines if "Address" in line]
    cells = [line.split() for line in lines if re.match(r" *[0-9a-f]+ [r-]", line)]
    rows = [row for row in cells if span.start <= int(row[0], 16) < span.end]
    return Seen(*(sum(int(row[head.index(n)]) << 10 for row in rows) for n in ("Rss", "Swap")))


def by_page_types(pid: int, span: Span) -> Seen:
    """Sum up the pages that page-types counts in a span: with the flag `swap`, and others."""
    area = f"{span.start // fpm.PAGE_SIZE:#x},{span.end // fpm.PAGE_SIZE:#x}"
    said = printed(str(page_types()), "--raw", "--pid", str(pid), "--addr", area)
    sizes = [0, 0]
    for pages, flags in re.findall(r"^0x\S+\s+(\d+)\s+\d+\s+\S+[ \t]*(\S*)$", said, re.MULTILINE):
        sizes["swap" in flags.split(",")] += int(pages) * fpm.PAGE_SIZE
    return Seen(*sizes)


def printed(*command: str) -> str:
    """Return what a command prints."""
    environment = os.environ | {"LC_ALL": "C"}
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment
    ).stdout


TOOLS: dict[str, Callable[[int, Span], Seen]] = {
    "fastpagemap": by_fastpagemap,
    "smaps": by_smaps,
    "pmap -X": by_pmap,
    "psutil": by_psutil,
    "page-types": by_page_types,
    "bits 63, 62": by_entries,
}


def made(victim: Victim) -> Iterator[tuple[str, Span]]:
    """Have a process make every kind of memory, one after the other."""
    for kind in KINDS:
        try:
            span = victim.make(kind.maker, SIZE // fpm.PAGE_SIZE)
            if kind.then == "pageout":
                victim.pageout(span)
            elif kind.then:
                span.do(kind.then)
        except (Missing, VictimError) as error:
            sys.exit(f"{kind.label}: {error}")
        yield kind.label, span


def sums(pid: int) -> Iterator[tuple[str, list[float | None]]]:
    """Yield for each tool its rss, pss, uss and swap of the process, in MiB."""
    with fpm.Group([pid]) as group:
        row = group.usage()[0]
    names = ("rss", "pss", "uss", "swapped")
    yield "`fpm.Group([pid]).usage()`", [row[name] / MIB for name in names]
    about = psutil.Process(pid).memory_full_info()
    yield (
        "`psutil`, memory_full_info",
        [size / MIB for size in (about.rss, about.pss, about.uss, about.swap)],
    )
    [smem] = [
        line.split()
        for line in printed("smem", "-H", "-c", "pid rss pss uss swap").splitlines()
        if line.split()[0] == str(pid)
    ]
    yield "smem", [int(size) / 1024 for size in smem[1:]]
    status = status_of(pid)
    yield "/proc/PID/status", [status["VmRSS"], None, None, status["VmSwap"]]


def status_of(pid: int) -> dict[str, float]:
    """Return the sizes of /proc/PID/status, in MiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return {name: int(size) / 1024 for name, size in re.findall(r"^(\w+):\s+(\d+) kB", text, re.M)}


def tables() -> Iterator[str]:
    """Yield the lines of the tables."""
    with contextlib.ExitStack() as undo:
        undo.enter_context(any_swap(SWAP))
        victim = undo.enter_context(Victim())
        yield f"| {SIZE // MIB} MiB of memory | {' | '.join(TOOLS)} |"
        yield "| --- |" + " --- |" * len(TOOLS)
        for label, span in made(victim):
            said = [str(tool(victim.pid, span)) for tool in TOOLS.values()]
            yield f"| {label} | {' | '.join(said)} |"
        yield ""
        yield "| the process, MiB | rss | pss | uss | swap |"
        yield "| --- |" + " ---: |" * 4
        for label, sizes in sums(victim.pid):
            told = ["-" if size is None else f"{size:.1f}" for size in sizes]
            yield f"| {label} | {' | '.join(told)} |"


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(BEGIN)
    kernel = os.uname().release
    about = f"Made by `make comparison` (docs/comparison.py) on Linux {kernel}, as root.\n\n"
    PAGE.write_text(
        before + BEGIN + about + "\n".join(tables()) + "\n" + END + rest.partition(END)[2]
    )
