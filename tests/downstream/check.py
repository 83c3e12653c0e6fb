"""Compare what the extensions here count with what fastpagemap's Python says: run by the tests."""

import mmap
import os
import sys

import native
import numpy as np
import sampler

import fastpagemap as fpm

PAGES = 3000


def check_frames(pm: fpm.PageMap, start: int, end: int) -> None:
    """Compare what /proc/kpagecount says of the frames of every third page."""
    for _ in range(10):  # where the kernel moves none meanwhile
        numbers = pm.read(start, end).pfn[::3]
        counts, same = counts_of(numbers)
        if (pm.read(start, end).pfn[::3] == numbers).all():
            break
    assert (counts == same).all()
    assert (counts[:-1] == 1).all(), counts
    assert counts[-1] == 0


def counts_of(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ask both about frames, in an order of no kind, and about one that there is not."""
    wanted = np.append(np.random.default_rng(0).permutation(numbers), np.uint64(2**64 - 1))
    counts = np.full(len(wanted), 7, np.uint64)
    fd = os.open("/proc/kpagecount", os.O_RDONLY)
    assert sampler.frames(fd, wanted, counts) == len(wanted)
    os.close(fd)
    with fpm.Frames() as frames:
        return counts, frames.mapcounts(wanted)


def main() -> None:
    """Exit with 0 if all agree."""
    memory = mmap.mmap(-1, PAGES * fpm.PAGE_SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    for page in range(0, PAGES, 3):
        memory[page * fpm.PAGE_SIZE] = 1
    start, end = fpm.span(memory)
    files = sampler.Files()
    with fpm.PageMap() as pm:
        for name in ("present", "shared", "exclusive"):
            question = getattr(sampler, name.upper())
            wanted = getattr(pm, name)(start, end)
            mask = np.full(PAGES, 7, np.uint8)
            assert sampler.mask(files, start, mask, question) == wanted.sum(), name
            assert (mask == wanted).all(), name
            assert sampler.count(files, start, PAGES, question) == wanted.sum(), name
            entries = np.zeros(PAGES, np.uint64)
            assert sampler.entries(files, start, entries) == PAGES
            assert sampler.decode(entries, question, mask) == wanted.sum(), name
            assert (mask == wanted).all(), name
        assert sampler.count(files, start, PAGES, sampler.SWAP_ENTRY) == 0
        if os.geteuid() == 0:
            check_frames(pm, start, end)
    assert native.present(start, PAGES) == PAGES // 3
    samples = np.zeros(5, np.int64)
    sampler.sample(files, start, PAGES, samples, 1000)
    assert (samples == PAGES // 3).all()
    print(f"Python {sys.version_info[0]}.{sys.version_info[1]}: {PAGES // 3} pages, all agree")


if __name__ == "__main__":
    main()
