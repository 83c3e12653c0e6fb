"""Snapshot files of strangers, by the thousand: each is refused, or loaded right, at little cost.

Files that this package wrote are changed: bytes anywhere, members with their checksums made right,
and the archive's own records; others are made from scratch, or are snapshots that contradict
themselves, which must not be saved. What is loaded is used, saved again, and must load to the same.
A find is kept in --keep.
"""

import argparse
import pathlib
import random
import sys
import time
import tracemalloc

import _torture  # isort: skip
from _snapshot_files import CHANGES, bomb, consistent, contradicting

from fastpagemap import SnapshotError
from fastpagemap.snapshot import file_format
from snapshots import check_same, content_of, load, small, whole

SECONDS = 3.0


# ---- what must be ------------------------------------------------------------------------------


def check_content(content):
    """Load it within its budget; if it loads, use it, and save it again to the same."""
    tracemalloc.start()
    began = time.process_time()
    try:
        loaded = load(content)
    except SnapshotError:
        loaded = None
    finally:
        took, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    most = file_format.FREE_BYTES + file_format.MAX_RATIO * len(content)
    if loaded is not None:
        size = sum(
            len(mapping.path.encode("utf-8", "surrogateescape")) for mapping in loaded.mappings
        )
        most = file_format._cost(len(loaded.states), len(loaded.mappings), size)
    assert peak <= 2 * most + len(content) + (4 << 20), f"{peak} bytes, of a file of {len(content)}"
    assert took < SECONDS + len(content) / 1e7, f"{took:.1f} s"
    if loaded is None:
        return False
    repr(loaded)
    loaded.usage()
    assert not len(loaded.diff(loaded).runs)
    loaded.state(0, 12 * loaded.page_size)
    check_same(loaded, load(content_of(loaded)))
    return True


def check_snapshot(snapshot, good):
    """It is saved and loads to the same; or, unless it is good, it is refused."""
    try:
        content = content_of(snapshot)
    except (SnapshotError, UnicodeEncodeError):
        assert not good
        return False
    check_same(snapshot, load(content))
    return True


def one(chance, seeds):
    """Try one thing; return what it was, and whether it was taken."""
    kind = chance.randrange(12)
    if kind == 0:
        return "consistent", check_snapshot(consistent(chance), True)
    if kind == 1:
        return "contradicting", check_snapshot(contradicting(chance), False)
    seed = chance.choice(seeds)
    change = bomb if kind == 2 and chance.random() < 0.1 else chance.choice(CHANGES)
    content = change(chance, seed)
    try:
        return change.__name__, check_content(content)
    except BaseException:
        one.last = content
        raise


def main():
    """Return the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", type=pathlib.Path, default=pathlib.Path("."))
    given = _torture.arguments(parser)
    seeds = [content_of(small()), content_of(whole()), content_of(consistent(random.Random(1)))]

    def one_round(chance, counts):
        one.last = b""
        try:
            what, good = one(chance, seeds)
        except Exception as error:
            path = given.keep / f"find-snapshot-{given.seed}.{chance.number}"
            path.write_bytes(one.last)
            error.add_note(f"kept as {path}")
            raise
        counts[f"{what} taken" if good else f"{what} refused"] += 1

    return _torture.run(one_round, given)


if __name__ == "__main__":
    sys.exit(main())
