"""A program that asks for far more memory than it uses: try ``fastpagemap run`` on it.

As root on a machine with swap a part of the archive is paged out.
"""

import mmap

import numpy as np

PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
MADV_PAGEOUT = 21


def load_prices():
    """Make room for a million articles, of which there are sixty thousand."""
    prices = np.zeros((1 << 20, 512))
    prices[:60_000] = 1.0
    return prices


def load_archive():
    """Read what nobody has asked for in weeks."""
    archive = mmap.mmap(-1, 256 << 20, PRIVATE)
    archive.write(bytes(range(256)) * (192 << 12))
    archive.madvise(MADV_PAGEOUT, 0, 128 << 20)
    return archive


def open_shop():
    """Allocate all there is; the workers are to share the baskets."""
    prices, archive = load_prices(), load_archive()
    baskets = mmap.mmap(-1, 64 << 20)
    baskets.write(bytes(8 << 20))
    names = [f"article {number}" for number in range(500_000)]
    buffer = np.empty(256 << 20, np.uint8)
    return prices, archive, baskets, names, buffer


shop = open_shop()
