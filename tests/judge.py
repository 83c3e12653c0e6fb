"""Compares everything that PageMap says of a span with the slow twin, by every way to ask."""

import functools
import os
import stat

import numpy as np

import fastpagemap as fpm
import linux
import memory
import oracle
from linux import PAGE

#: How often a span is judged anew that did not hold still.
TRIES = 10
#: What is said of a page to those who may not ask, or see.
UNTOLD = "untold"
#: The masks that entries alone decide.
PLAIN = ("present", "shared", "exclusive")
#: Those that PageMap.masks() has as well.
TOGETHER = ("swapped", "shared", "unknown", "soft_dirty")


def judge(pm, start, end, knows=None):
    """Assert that pm tells the truth about a span of a process that does nothing meanwhile.

    `knows`: whether this user can learn everything, so that nothing may be unknown; root can.
    A span that changed by itself is judged again: others may take away swap with pages of it.
    """
    knows = os.geteuid() == 0 if knows is None else knows
    for _ in range(TRIES):
        words, files = state_of(start, end, pm.pid)
        try:
            return judge_once(pm, start, end, words, files, knows)
        except AssertionError:
            if state_of(start, end, pm.pid) == (words, files):
                raise
    raise AssertionError(f"{start:#x}-{end:#x} never held still")


def state_of(start, end, pid):
    """All that is known of a span: its entries, and what the files behind it say."""
    return oracle.words(start, end, pid), files_say(start, end, pid)


def judge_once(pm, start, end, words, files, knows):
    """Compare all answers about a span with its state."""
    truths = [oracle.meaning(word) for word in words]
    if os.geteuid() and not swap_within(start, end, pm.pid):
        # markers, to those who see no swap types; they may be known for what they are all the same
        truths = [truth._replace(swapped=UNTOLD if truth.swapped else False) for truth in truths]
    pages = pm.read(start, end)
    assert (len(pages), pages.start, pages.end) == (len(words), start, end)
    assert pages.entries["value"].tolist() == words
    for name in PLAIN:
        expected = [getattr(truth, name) for truth in truths]
        for way, answer in ways(pm, pages, name):
            assert answer.tolist() == expected, (way, name)
    both = (ways(pm, pages, "swapped"), ways(pm, pages, "unknown"))
    for (way, swapped), (_, unknown) in zip(*both, strict=True):
        for rows in zip(truths, files, swapped.tolist(), unknown.tolist(), strict=True):
            judge_page(*rows, knows, way)
    judge_soft_dirty(pm, pages, [truth.soft_dirty for truth in truths])


def judge_page(truth, in_file, swapped, unknown, knows, way):
    """One page is swapped, or not, or unknown, which it never is to who can know; rightly so.

    `in_file` is what the file of shared memory says of it, None where there is no such file.
    """
    said = (swapped, unknown)
    if truth.swapped is UNTOLD:
        assert said in ((True, False), (False, False)), way
    elif in_file is UNTOLD and not truth.present:
        assert said != (True, True), way
    elif truth.present or truth.swapped or in_file is None:
        assert said == (truth.swapped, False), way
    elif knows:
        assert said == (in_file, False), way
    else:
        assert said in ((in_file, False), (False, True)), way


def swap_within(start, end, pid):
    """Whether smaps counts any swap in the mappings of a span."""
    sums = oracle.smaps(pid).items()
    return any(fields["Swap"] for (low, high), fields in sums if low < end and high > start)


def ways(pm, pages, name):
    """One mask by all the ways in which it can be had, each with its name."""
    start, end = pages.start, pages.end
    out = np.full(len(pages), True)
    assert getattr(pm, name)(start, end, out=out) is out
    yield "out", out
    yield "method", getattr(pm, name)(start, end)
    yield "pages", getattr(pages, name)
    if name in TOGETHER:
        yield "masks", getattr(pm.masks(start, end), name)


@functools.cache
def keeps_soft_dirty():
    """Whether this kernel has soft-dirty bits: whether a page just written has one."""
    with memory.touched(1) as made:
        return oracle.decode(oracle.words(made.start, made.end)[0]).soft_dirty


def judge_soft_dirty(pm, pages, expected):
    """Soft-dirty bits where the kernel has them, and a refusal, by every way, where not."""
    if keeps_soft_dirty():
        for way, answer in ways(pm, pages, "soft_dirty"):
            assert answer.tolist() == expected, way
        return
    masks = pm.masks(pages.start, pages.end)
    refusals = 0
    for ask in (
        lambda: pm.soft_dirty(pages.start, pages.end),
        lambda: pages.soft_dirty,
        lambda: masks.soft_dirty,
    ):
        try:
            ask()
        except fpm.UnsupportedError as error:
            refusals += "soft-dirty" in str(error)
    assert refusals == 3


def files_say(start, end, pid):
    """Of each page, whether shared memory is behind it (else None) that has it in swap."""
    answers = [None] * ((end - start) // PAGE)
    for line in oracle.maps(pid):
        if line.start < end and line.end > start and is_shared_memory(line, pid):
            inside = range(max(start, line.start), min(end, line.end), PAGE)
            words = oracle.words(inside.start, inside.stop, pid)
            said = _file_says(line, inside, pid)
            for address, word, answer in zip(inside, words, said, strict=True):
                # a private mapping's own pages, and markers, hide what the file has there
                if "s" in line.permissions or not word >> 62:
                    answers[(address - start) // PAGE] = answer
    return answers


def is_shared_memory(line, pid):
    """Whether a tmpfs is, or below an overlay may be, behind a mapping."""
    if not line.inode:
        return False
    try:
        fd = oracle.open_mapping(line.start, line.end, pid)
    except PermissionError:
        return line.device == _device_of_memfd() or line.path.startswith(b"/dev/shm/")
    except OSError:  # secret memory is not to be had a second time
        return False
    try:  # a device's file on the tmpfs of /dev is no memory of that tmpfs
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
        return regular and linux.filesystem(fd) in (linux.TMPFS_MAGIC, linux.OVERLAYFS_MAGIC)
    finally:
        os.close(fd)


@functools.cache
def _device_of_memfd():
    fd = os.memfd_create("fastpagemap")
    device = os.fstat(fd).st_dev
    os.close(fd)
    return f"{os.major(device):02x}:{os.minor(device):02x}"


def _file_says(line, addresses, pid):
    """Of each address in a mapping, whether its page of the file is in swap."""
    try:
        fd = oracle.open_mapping(line.start, line.end, pid)
    except PermissionError:
        return _smaps_says(line, addresses, pid)
    try:
        if linux.filesystem(fd) == linux.OVERLAYFS_MAGIC:  # which knows nothing of its layer's swap
            return _smaps_says(line, addresses, pid)
        pages = [(line.offset + address - line.start) // PAGE for address in addresses]
        return [oracle.swapped_in_file(fd, page) for page in pages]
    finally:
        os.close(fd)


def _smaps_says(line, addresses, pid):
    """All, or nothing, or untold: a total tells no more."""
    words = oracle.words(line.start, line.end, pid)
    own = sum(oracle.meaning(word).swapped for word in words)
    empty = sum(not word >> 62 for word in words)
    in_file = oracle.smaps(pid)[line.start, line.end]["Swap"] // PAGE - own
    verdict = bool(in_file) if in_file in (0, empty) else UNTOLD
    return [verdict] * len(addresses)
