"""Random layouts of memory: every kind that the tests can make, cut up, moved and swapped."""

import contextlib
import glob
import mmap
import os
import re

import backed
import kinds
import linux
import marked
import memory
import sharing
import steps
import swap
from forks import forked
from linux import PAGE
from needs import Missing

_MREMAP_FIXED, _MREMAP_DONTUNMAP = 2, 4
_SETTINGS = "/sys/kernel/mm/transparent_hugepage"
#: The kernel loops in it where userfaultfd watches: only SIGKILL would end that.
_NO_GUARDS = {"write_protected", "poisoned"}
#: Kinds that take long to make.
_SLOW = {"merged", "overlay", "tmpfs_detached", *kinds.HUGETLB}
#: Of swap: behind that of tests, which may run beside this.
_PRIORITY = 100
_LETTERS = ["S", "C", ".", "F", "P", "SSSSSS", "S.", "CCCC", "PPP", "s"]


def mthp(pages, kilobytes):
    """Private memory of huge pages of one size, every page written."""
    made = memory.Memory(pages, align=kilobytes << 10)
    path = f"{_SETTINGS}/hugepages-{kilobytes}kB/enabled"
    with made.undone_on_error(), linux.alone(_SETTINGS):
        with open(path) as file:
            before = file.read().split("[")[1].split("]")[0]
        linux.write_text(path, "always")
        try:
            return made.advise(linux.MADV_HUGEPAGE).write()
        finally:
            linux.write_text(path, before)


def _sizes():
    names = glob.glob(f"{_SETTINGS}/hugepages-*kB/enabled")
    return sorted(int(re.search(r"-(\d+)kB", name)[1]) for name in names)


def _painted(chance, pages):
    """A file of shared memory, its pages in random states."""
    name = chance.choice(sorted(sharing.SHARED) if os.geteuid() == 0 else ["memfd", "posix"])
    pages = min(pages, 200)  # every page is painted by itself
    layout = ""
    while len(layout) < pages:
        layout += chance.choice(_LETTERS)
    made = sharing.KINDS[name](pages)
    with made.undone_on_error():
        return name, sharing.paint(made, layout[:pages])


def _pages(chance):
    """How many: mostly few, at times around a huge page, or more than is read at once."""
    few, some, many = chance.randint(1, 40), chance.randint(60, 700), chance.randint(1, 5000)
    return chance.choice([few, few, few, some, some, many])


def made_at_random(chance):
    """(name, memory) of one random kind."""
    pages = _pages(chance)
    what = chance.random()
    sizes = _sizes()
    if what < 0.15 and sizes and os.geteuid() == 0:
        size = chance.choice(sizes)
        return f"mthp {size}", mthp(max(pages, (size << 10) // PAGE), size)
    if what < 0.35:
        return _painted(chance, pages)
    names = sorted(set(kinds.ALL) - (_SLOW if chance.random() < 0.8 else set()))
    name = chance.choice(names)
    if name in _SLOW or name == "guarded":
        pages = min(pages, 100)
    return name, kinds.ALL[name](pages)


def _move(made, first, last, chance):
    """mremap(2) pages elsewhere in the same memory, as far as they do not overlap."""
    pages = last - first
    to = chance.randrange(max(1, made.pages - pages + 1))
    flags = linux.MREMAP_MAYMOVE | _MREMAP_FIXED
    if chance.random() < 0.3:
        flags |= _MREMAP_DONTUNMAP
    if to + pages <= first or last <= to:
        linux.call("mremap", made.at(first), pages * PAGE, pages * PAGE, flags, made.at(to))


def _page_out(made, first, last, _chance):
    """Send to swap what can go, from each processor's list of new pages."""
    processors = os.sched_getaffinity(0)
    try:
        for processor in processors:
            os.sched_setaffinity(0, {processor})
            with contextlib.suppress(OSError):
                made.advise(linux.MADV_PAGEOUT, first, last)
    finally:
        os.sched_setaffinity(0, processors)


def _collapse(made, first, last, _chance):
    made.advise(linux.MADV_COLLAPSE, first, last)


def _need_soon(made, first, last, _chance):
    """Read from swap ahead: what has a copy in the swap cache."""
    made.advise(mmap.MADV_WILLNEED, first, last)


def _of_file(deed):
    """A step that happens to the file behind shared memory, through its descriptor."""

    def step(made, first, last, _chance):
        if made.fd >= 0 and linux.filesystem(made.fd) == linux.TMPFS_MAGIC:
            deed(made.fd, first, last)

    return step


def _cut(fd, first, last):
    """Cut it off, at times within a page: what is mapped beyond stays mapped."""
    os.ftruncate(fd, first * PAGE + last % 2 * PAGE // 2)


def _extend(fd, _first, last):
    os.ftruncate(fd, max(os.fstat(fd).st_size, last * PAGE))


def _mark(made, first, last, _chance):
    """Put markers on pages of shared memory that are not in the page table."""
    if made.fd >= 0 and linux.filesystem(made.fd) == linux.TMPFS_MAGIC:
        made.drop(first, last)
        made.watched = True
        marked.mark(made, first, last)


#: allocate() does not make the file grow: pages beyond its end are in no mapping.
FILE = {
    "cut": _of_file(_cut),
    "extend": _of_file(_extend),
    "punch": _of_file(sharing.punch),
    "allocate": _of_file(sharing.allocate),
    "store": _of_file(lambda fd, first, last: os.pwrite(fd, b"s" * PAGE, first * PAGE)),
}
OWN = {"move": _move, "page out": _page_out, "collapse": _collapse, "need soon": _need_soon}
OWN |= {"mark": _mark} | {f"{name} the file": step for name, step in FILE.items()}


def _step(chance, kind, made):
    """Do something random to some pages, as far as it can be done."""
    names = [*steps.STEPS, *OWN, "page out", "page out", "move", "write", "write some", "drop"]
    name = chance.choice(names)
    if name == "guard" and (kind in _NO_GUARDS or getattr(made, "watched", False)):
        return
    if name in ("truncate", "grow") and made.pages > 1000:
        return
    first, last = sorted((chance.randint(0, made.pages), chance.randint(0, made.pages)))
    if first == last:
        return
    with contextlib.suppress(OSError, Missing, ValueError):
        if name in OWN:
            OWN[name](made, first, last, chance)
        else:
            steps.STEPS[name](made, first, last)


def random_layout(chance, stack, counts):
    """A list of (name, memory), which the stack closes; what this machine lacks is left out."""
    found = []
    for _ in range(chance.choice([1, 1, 2, 3])):
        try:
            name, made = made_at_random(chance)
        except (Missing, RuntimeError) as lacking:
            counts[f"missing: {lacking}"[:60]] += 1
            continue
        stack.enter_context(made)
        found.append((name, made))
        for _ in range(chance.choice([0, 1, 3, 8])):
            _step(chance, name, made)
    if found and chance.random() < 0.4:
        stack.enter_context(forked())
        for name, made in found:
            for _ in range(chance.randint(0, 3)):
                _step(chance, name, made)
    return found


@contextlib.contextmanager
def both_kinds_of_swap(size=256 << 20):
    """Swap on compressed memory and on a file, filled in turns (root); none to other users."""
    with contextlib.ExitStack() as stack:
        if os.geteuid() == 0:
            for make in (swap.zram_swap, swap.file_swap):
                with contextlib.suppress(Missing):
                    stack.enter_context(make(size, _PRIORITY))
        # somebody has to be in swap: what an ordinary user may conclude depends on it
        other = stack.enter_context(backed.shared_anonymous(50))
        with contextlib.suppress(OSError):
            other.advise(linux.MADV_PAGEOUT)
        yield
