"""Questions about shared memory whose pages were brought into known states (sharing.paint)."""

import signal

import fastpagemap as fpm
import memory
import oracle_files
import runas
from compare import ask, while_still
from features import has_cachestat
from linux import PAGE
from sharing import expected, hide, paint


def ask_as(made, *, uid=runas.NOBODY, capabilities=(), keep_fd=False, before=None):
    """What a child that is `uid` and has these capabilities is told of its own memory.

    Without a descriptor of the file, and after calling before(), unless told otherwise.
    """

    def answer():
        signal.alarm(120)  # opening a pipe would wait forever
        if not keep_fd:
            hide(made)
        if before:
            before()
        with fpm.PageMap() as pm:
            return ask(pm, made.start, made.end)

    return runas.run_as(answer, uid=uid, capabilities=capabilities)


def ask_painted(made, layout, own="", look=ask_as, **who):
    """Paint a memory and look(made, **who) at it; again when others disturbed it meanwhile."""

    def painted():
        paint(made, layout, own)
        return expected(layout, own)

    def after():
        if not has_cachestat():
            return expected(layout, own)
        return oracle_files.swapped(made.start, made.end)

    return while_still(lambda: look(made, **who), painted, after)[1]


def all_unknown(said, layout):
    """Whether nothing is said of the pages that are in no process's page table."""
    told = [not u for u, letter in zip(said.unknown, layout, strict=True) if letter in "SsF."]
    return not any(said.swapped) and not any(told)


def around(made):
    """The span of a memory, and of the gap on both sides."""
    gap = (memory.GAP_PAGES - 1) * PAGE
    return made.start - gap, made.end + gap
