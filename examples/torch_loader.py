"""What the workers of a torch DataLoader copy of a dataset, though they only read it.

    python examples/torch_loader.py [ITEMS]

A forked worker shares the dataset with its parent until one of them writes to a page. CPython
writes where a program only reads: the reference count is part of each object. So workers copy a
list of strings, item by item, and memory grows through the first epoch. One array has one count.
"""

import multiprocessing
import sys

import numpy as np
from torch.utils.data import DataLoader, Dataset

import fastpagemap as fpm

MIB = 1 << 20
WORKERS = 2


class Texts(Dataset):
    """A dataset of texts, of which the lengths are asked for."""

    def __init__(self, texts):
        self.texts = texts

    def __len__(self):
        return len(self.texts)

    def __getitem__(self, item):
        return len(self.texts[item])


def own(pids):
    """Return how many bytes no other process maps, on average of a worker."""
    with fpm.Group(pids) as group:
        return int(group.usage()["uss"].mean())


def copied(texts):
    """Read each text once, by workers; return how much each has grown from the first batch on."""
    loader = DataLoader(
        Texts(texts),
        batch_size=500,
        shuffle=True,
        num_workers=WORKERS,
        prefetch_factor=1,
        persistent_workers=True,  # so that they are there at the end, too
        multiprocessing_context="fork",
    )
    batches = iter(loader)
    next(batches)
    pids = [each.pid for each in multiprocessing.active_children()]
    before = own(pids)
    for _ in batches:
        pass
    return own(pids) - before


def main():
    """Compare a list of strings with an array of the same."""
    count = int(sys.argv[1]) if sys.argv[1:] else 400_000
    strings = [f"{number:60}" for number in range(count)]
    said = "{:6} {:6.0f} MiB, copied by each worker, of {:.0f} MiB"
    size = sum(map(sys.getsizeof, strings))
    print(said.format("list", copied(strings) / MIB, size / MIB))
    array = np.array(strings, "S60")
    del strings
    print(said.format("array", copied(array) / MIB, array.nbytes / MIB))


if __name__ == "__main__":
    main()
