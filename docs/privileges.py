"""Put the table of privileges into docs/howto/privileges.md: ``make privileges`` (root).

Each call is made by each user about the same process, and its answer compared with root's.
``make test-kernels KERNELS=7 RUN=docs/privileges.py`` prints the table on the newest kernel, which
has all of the calls.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import fastpagemap as fpm
import linux
import runas
import swap
from needs import Missing, need
from victim import Victim

PAGE = Path(__file__).resolve().parent / "howto/privileges.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PAGES = 256
ANOTHER = runas.NOBODY - 1
CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE = 2, 19
CAP_SYS_ADMIN, CAP_CHECKPOINT_RESTORE = runas.CAP_SYS_ADMIN, runas.CAP_CHECKPOINT_RESTORE
SWAP = 64 << 20


class User(NamedTuple):
    """Who asks: the user of the process that is asked about, or root, or another user."""

    label: str
    uid: int
    capabilities: tuple[int, ...] = ()


class Spans(NamedTuple):
    """The memory of the process: some of all but the file is in swap."""

    private: tuple[int, int]
    anonymous: tuple[int, int]
    memfd: tuple[int, int]
    file: tuple[int, int]


KINDS = ("touched", "shared_anonymous", "memfd", "file_shared")
READ = (CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH)
USERS = (
    User("the same user", runas.NOBODY),
    User("another user", ANOTHER),
    User("`SYS_PTRACE`", ANOTHER, READ[:1]),
    User("`SYS_PTRACE`, `DAC_READ_SEARCH`", ANOTHER, READ),
    User("and `CHECKPOINT_RESTORE`", ANOTHER, (*READ, CAP_CHECKPOINT_RESTORE)),
    User("or `SYS_ADMIN`", ANOTHER, (*READ, CAP_SYS_ADMIN)),
)

Asked = Callable[[int, Spans], Any]


def of_process(question: Callable[[fpm.PageMap, Spans], Any]) -> Asked:
    """Ask a PageMap of the process."""

    def ask(pid: int, spans: Spans) -> Any:
        with fpm.PageMap(pid) as pm:
            return question(pm, spans)

    return ask


def of_group(question: Callable[[fpm.Group], Any]) -> Asked:
    """Ask a Group of the process alone."""

    def ask(pid: int, spans: Spans) -> Any:
        with fpm.Group([pid]) as group:
            return question(group)

    return ask


def row(pm: fpm.PageMap, spans: Spans, *columns: str) -> Any:
    """Return columns of the private mapping."""
    mappings = [m for m in pm.mappings() if m.start == spans.private[0]]
    return pm.usage(mappings, fields=columns)


def columns(rows: Any) -> list[str]:
    """Return the names of columns, without those that depend on what of others can be read."""
    outsiders = {"swapped_pss", "swapped_uss", "swapped_unique"}
    return [name for name in rows.dtype.names if name not in outsiders]


def swapped(pm: fpm.PageMap, span: tuple[int, int]) -> Any:
    """Return what is swapped, and what is unknown, of shared memory."""
    masks = pm.masks(*span)
    return {"swapped": int(masks.swapped.sum()), "unknown": int(masks.unknown.sum())}


def own(tracker: Any) -> Asked:
    """Track memory of this process: it is not asked about another."""

    def ask(pid: int, spans: Spans) -> Any:
        memory = np.zeros(1 << 16)
        with tracker(memory) as tracking:
            return bool(len(tracking.regions()) >= 0)

    return ask


CALLS: dict[str, Asked] = {
    "`pm.mappings()`": of_process(lambda pm, spans: [m.path for m in pm.mappings()]),
    "`pm.present`, `shared`, `exclusive`, `zero`, `huge`": of_process(
        lambda pm, spans: np.array(
            [
                getattr(pm, name)(*span)
                for name in ("present", "shared", "exclusive", "zero", "huge")
                for span in spans
            ]
        )
    ),
    "`pm.swapped` of private memory": of_process(
        lambda pm, spans: swapped(pm, spans.private),
    ),
    "`pm.swapped` of a memfd": of_process(lambda pm, spans: swapped(pm, spans.memfd)),
    "`pm.swapped` of shared anonymous memory": of_process(
        lambda pm, spans: swapped(pm, spans.anonymous)
    ),
    "`pm.usage()`, `usage_of([pid])`": lambda pid, spans: fpm.usage_of(
        [pid], fields=["present", "swapped", "swapped_shared", "unknown"]
    ),
    '`pm.usage(fields=["pss", "uss"])`': of_process(
        lambda pm, spans: row(pm, spans, "present", "pss", "uss")
    ),
    "`pm.cached` of a file of that user": of_process(lambda pm, spans: pm.cached(*spans.file)),
    "`pm.nodes`": of_process(lambda pm, spans: pm.nodes(*spans.private)),
    "`pm.read().entries`, their flags": of_process(
        lambda pm, spans: pm.read(*spans.private).entries["flags"]
    ),
    "`pm.read().pfn`, `swap_offset`": of_process(
        lambda pm, spans: np.array(
            [pm.read(*spans.private).pfn, pm.read(*spans.private).swap_offset]
        )
    ),
    "`pm.mapcounts`": of_process(lambda pm, spans: pm.mapcounts(*spans.private)),
    "`pm.folios`": of_process(lambda pm, spans: len(pm.folios(*spans.private)) > 0),
    "`Group.usage()`": of_group(lambda group: columns(group.usage())),
    "`Group.total()`": of_group(lambda group: columns(group.total())),
    "`Group.sharers`, `overlap`": of_group(lambda group: group.overlap().shape),
    "`Frames()`": lambda pid, spans: fpm.Frames().close(),
    "`pm.clear_soft_dirty()`": of_process(lambda pm, spans: pm.clear_soft_dirty()),
    "`WriteTracker`, of its own memory": own(fpm.WriteTracker),
    "`AccessTracker`, of its own memory": own(fpm.AccessTracker),
}


def told(call: Asked, pid: int, spans: Spans) -> Any:
    """Return an answer, or the exception in its place."""
    try:
        return call(pid, spans)
    except OSError as error:
        return error


def cell(answer: Any, roots: Any) -> str:
    """Say how an answer compares with root's."""
    if isinstance(answer, OSError):
        return "no" if isinstance(answer, PermissionError) else f"`{type(answer).__name__}`"
    if isinstance(answer, np.ndarray):
        if not answer.dtype.names:
            same = np.array_equal(answer, roots)
            return "yes" if same else "differs" if answer.any() else "all 0"
        answer, roots = (
            {name: a[name].tolist() for name in a.dtype.names} for a in (answer, roots)
        )
    if answer == roots:
        return "yes"
    if isinstance(answer, dict):
        return "part is `unknown`" if np.any(answer.get("unknown", 0)) else "differs"
    return "fewer columns"


def table() -> dict[str, list[str]]:
    """Ask everything; return the cells of each call, none where this kernel has no such call."""
    with Victim(runas.NOBODY) as victim:
        made = [victim.make(kind, PAGES) for kind in KINDS]
        for span in made[:3]:
            victim.pageout(span)
            span.do("write", 0, PAGES // 2)
            if span is not made[0]:  # so that what is not present is in swap or in no place
                span.do("advise", linux.MADV_REMOVE, PAGES * 3 // 4, PAGES)
        spans = Spans(*((span.start, span.end) for span in made))
        return {name: cells(call, victim.pid, spans) for name, call in CALLS.items()}


def cells(call: Asked, pid: int, spans: Spans) -> list[str]:
    """Ask as each user."""
    roots = runas.in_child(told, call, pid, spans)
    if isinstance(roots, fpm.UnsupportedError):
        return []
    found = []
    for user in USERS:
        how = {"uid": user.uid, "capabilities": user.capabilities}
        found.append(cell(runas.run_as(told, call, pid, spans, **how), roots))
    return found


def lines(found: dict[str, list[str]]) -> list[str]:
    """Return the table, as it stands on the page."""
    head = f"| call | {' | '.join(user.label for user in USERS)} |"
    rows = [f"| {name} | {' | '.join(each)} |" for name, each in found.items() if each]
    return [head, f"| --- |{' --- |' * len(USERS)}", *rows]


def main() -> None:
    """Put the table into the page, and print it."""
    need(os.geteuid() == 0, "root")
    with swap.any_swap(SWAP):
        measured = lines(table())
    kernel = ".".join(os.uname().release.split(".")[:2])
    new = "\n".join(
        [BEGIN, f"Measured on Linux {kernel} by docs/privileges.py.", "", *measured, END]
    )
    print(new)
    if PAGE.exists():
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(before + new + rest.partition(END)[2])


if __name__ == "__main__":
    try:
        main()
    except Missing as missing:
        sys.exit(f"privileges: this machine lacks {missing}")
