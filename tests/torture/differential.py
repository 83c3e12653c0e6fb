"""Random layouts, looked at by every reader: do all answers agree, and with the kernel's own?

Root looks at everything with all that this kernel has, and through compare.check(). Forks of it
look at themselves as root or as nobody, where PAGEMAP_SCAN, PROCMAP_QUERY or cachestat are refused.
"""

import contextlib
import errno
import functools
import os
import sys

import _torture  # isort: skip
import _judge
import _layouts

import compare
import linux
import runas
import seccomp
import sharing
from linux import PAGE
from needs import Missing
from sharer import Sharer, SharerError

#: What can be refused to a reader, by name.
REFUSALS = {
    "no scan": seccomp.without_scan,
    "no procmap query": seccomp.without_procmap_query,
    "no cachestat": lambda: seccomp.without_cachestat(errno.ENOSYS),
    "cachestat forbidden": lambda: seccomp.without_cachestat(errno.EPERM),
}


def refuse(names):
    """Have this process do without; for good."""
    for name in names:
        REFUSALS[name]()
    seccomp.forget()


def parts_of(chance, start, end):
    """A few random spans within a span."""
    pages = (end - start) // PAGE
    found = []
    for _ in range(3):
        low, high = sorted((chance.randint(0, pages), chance.randint(0, pages)))
        found.append((start + low * PAGE, start + high * PAGE))
    return found


def look(reader, chance, start, end, rights, pid):
    """Have one reader answer; judge what it says of process `pid` by that process's own files."""
    asked, parts = _judge.allocations(chance, start, end), parts_of(chance, start, end)

    def truth():
        return _judge.Truth.of(start, end, pid)

    real, said = compare.while_still(lambda: reader(start, end, asked, parts), truth)
    _judge.residency_is_true(said, asked, start)
    copies = set() if rights.cachestat else _judge.copies_in_ram(start, end, pid)
    _judge.true(said, real, start, rights, copies)


def told_by(other, *asked):
    """The answers of a fork; where they contradict each other, it says so by an AssertionError."""
    try:
        return other.ask("answers", *asked)
    except SharerError as error:
        if "AssertionError" in str(error):
            raise AssertionError(str(error)) from None
        raise


def look_here(chance, spans, counts):
    """As root or as whoever this is, with everything there is."""
    root = os.geteuid() == 0
    for start, end in spans:
        if chance.random() < 0.4:  # the tests' own judge, which is slow
            with compare.fpm.PageMap() as pm:
                compare.check(pm, start, end)
        rights = _judge.Rights(root, True, root)
        look(lambda *asked: _judge.answers(None, *asked), chance, start, end, rights, os.getpid())
        counts["spans"] += 1


def look_from_a_fork(chance, layout, spans, counts):
    """As a fork that is refused something, perhaps of another user; it looks at itself."""
    root = chance.random() < 0.5
    names = chance.sample(sorted(REFUSALS), chance.choice([0, 1, 1, 2, 3]))
    functions = {"refuse": refuse, "answers": lambda *asked: _judge.answers(None, *asked)}
    functions["hide"] = lambda: [sharing.hide(made) for made in layout if made.fd >= 0]
    with Sharer(functions, None if root else runas.NOBODY) as other:
        if chance.random() < 0.4:  # files that can be had by their mapping alone, or not at all
            other.ask("hide")
        other.ask("refuse", names)
        who = f"{'root' if root else 'nobody'}, {', '.join(names) or 'all'}"
        cachestat = not {"no cachestat", "cachestat forbidden"} & set(names)
        for made, (start, end) in zip(layout, spans, strict=True):
            # Without cachestat copies in RAM hide how much of a file is swapped, and that tells
            # which layer of an overlay is mapped.
            sure = cachestat or made.fd < 0 or linux.filesystem(made.fd) != linux.OVERLAYFS_MAGIC
            rights = _judge.Rights(root, cachestat, root and sure)
            try:
                look(functools.partial(told_by, other), chance, start, end, rights, other.pid)
            except AssertionError as error:
                error.add_note(f"told to {who}")
                raise
            counts[f"spans as {who}"] += 1


def one_round(chance, counts):
    """Make a layout, and have it looked at."""
    with contextlib.ExitStack() as stack:
        found = _layouts.random_layout(chance, stack, counts)
        spans = [(made.start - 3 * PAGE, made.end + 3 * PAGE) for _, made in found]
        try:
            look_here(chance, spans, counts)
            if os.geteuid() == 0 and chance.random() < 0.7:
                look_from_a_fork(chance, [made for _, made in found], spans, counts)
        except Missing as lacking:
            counts[f"missing: {lacking}"] += 1
        except AssertionError as error:
            error.add_note(f"the layout: {[(name, made.pages) for name, made in found]}")
            raise
        for name, _ in found:
            counts[f"of {name}"] += 1


if __name__ == "__main__":
    given = _torture.arguments()
    with _layouts.both_kinds_of_swap():
        status = _torture.run(one_round, given)
    sys.exit(status)
