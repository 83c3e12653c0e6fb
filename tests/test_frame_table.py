"""The table of frames, against a Counter in Python and the counts of the kernel's file."""

import os
import random
from collections import Counter

import numpy as np
import pytest

import backed
import cgroups
import fastpagemap as fpm
import runas
import seccomp
from fastpagemap._kernel.frame_table import FrameTable


def u64(values):
    return np.array(values, np.uint64)


@pytest.fixture
def counts(tmp_path):
    """A file as /proc/kpagecount is, of 100,000 frames, and its content."""
    chance = random.Random(5)
    content = [chance.choice([0, 1, 1, 2, 3, 7]) for _ in range(100_000)]
    path = tmp_path / "counts"
    path.write_bytes(u64(content).tobytes())
    with path.open("rb") as file:
        yield file.fileno(), content


def some(chance, many):
    """Frames in runs and alone, some of them several times, in no order."""
    starts = [chance.randrange(90_000) for _ in range(many)]
    frames = [at for start in starts for at in range(start, start + chance.choice([1, 1, 3, 40]))]
    frames += chance.sample(frames, len(frames) // 3)
    chance.shuffle(frames)
    return frames


def filled(frames):
    table = FrameTable()
    for part in np.array_split(u64(frames), 3):
        table.add(part)
    assert table.pages == len(frames)
    return table


@pytest.mark.parametrize(("seed", "many"), [(1, 1), (2, 20), (3, 900), (4, 6000)])
def test_totals(seed, many, counts):
    fd, content = counts
    own = Counter(some(random.Random(seed), many))
    mapped = {frame: times for frame, times in own.items() if content[frame]}
    frames, pages, unique, changed, share = filled(list(own.elements())).totals(fd, "counts")
    assert frames == len(mapped)
    assert pages == sum(mapped.values())
    assert unique == sum(times >= content[frame] for frame, times in mapped.items())
    assert changed == sum(times > content[frame] for frame, times in mapped.items())
    wanted = sum(min(1, times / content[frame]) for frame, times in mapped.items())
    page = FrameTable()
    page.add(u64([content.index(1)]))
    size = page.totals(fd, "counts")[-1]
    assert share == pytest.approx(wanted * size, rel=1e-6)


@pytest.mark.parametrize(("seed", "many"), [(1, 1), (2, 20), (3, 900), (4, 6000)])
def test_look_up(seed, many, counts):
    fd, content = counts
    frames = some(random.Random(seed), many)
    own, table = Counter(frames), filled(frames)
    asked = [*frames, 99_990, 99_999, 2**40]
    found = np.ones(len(asked), np.uint32)
    table.own(u64(asked), found)
    assert found.tolist() == [own[frame] for frame in asked]
    table.read(fd, "counts")
    table.all(u64(asked), found)
    assert found.tolist() == [content[frame] if own[frame] else 0 for frame in asked]
    table.add(u64(frames))
    table.own(u64(asked), found)
    assert found.tolist() == [2 * own[frame] for frame in asked]
    with pytest.raises(ValueError, match="frames were added after"):
        table.all(u64(asked), found)


def test_added_after_the_totals(counts):
    """What was added before is found again."""
    fd, content = counts
    frames = some(random.Random(6), 500)
    table = filled(frames)
    table.totals(fd, "counts")
    table.add(u64(frames))
    own = {frame: 2 * times for frame, times in Counter(frames).items() if content[frame]}
    assert table.totals(fd, "counts")[:2] == (len(own), sum(own.values()))


def test_frames_that_do_not_exist(counts):
    """The file ends before them."""
    fd, content = counts
    content[99_999] = 0
    table = filled([99_998, 100_000, 100_001, 2**54, 2**55 - 1])
    assert table.totals(fd, "counts")[0] == (content[99_998] > 0)


def test_empty(counts):
    fd, _ = counts
    table = FrameTable()
    assert table.totals(fd, "counts") == (0, 0, 0, 0, 0)
    table.read(fd, "counts")
    found = np.ones(1, np.uint32)
    table.all(u64([5]), found)
    assert found.tolist() == [0]


def test_sums(counts):
    fd, content = counts
    frames = [frame for frame in range(1000) if content[frame]]
    table = filled(frames)
    table.read(fd, "counts")
    lengths = [3, 0, 10, len(frames) - 13]
    sums = np.zeros((4, 3), np.uint64)
    table.sums(u64(frames), np.array(lengths), sums)
    assert sums[:, 0].tolist() == lengths
    rows = frames[:3], [], frames[3:13], frames[13:]
    alone = [sum(content[frame] == 1 for frame in row) for row in rows]
    size = int(sums[:, 2].sum()) // sum(alone)
    assert sums[:, 2].tolist() == [each * size for each in alone]


@pytest.mark.parametrize(
    ("lengths", "shape", "message"),
    [
        ([2, 2], (2, 3), "row 1 of 2 frames, 1 are left"),
        ([2], (1, 3), "3 frames are more than those of the rows, 2"),
        ([4, -1], (2, 3), "row 0 of 4 frames"),
        ([-1, 4], (2, 3), "row 0 of -1 frames"),
        ([3], (2, 3), "2 rows of 3 sums does not fit 3 sums of 1 rows"),
        ([3], (1, 2), "1 rows of 2 sums does not fit"),
    ],
)
def test_sums_that_do_not_fit(lengths, shape, message, counts):
    table = filled([1, 2, 3])
    table.read(counts[0], "counts")
    with pytest.raises(ValueError, match=message):
        table.sums(u64([1, 2, 3]), np.array(lengths), np.zeros(shape, np.uint64))


def test_counts_that_do_not_fit():
    table = filled([1, 2, 3])
    for size in 2, 4:
        for ask in table.own, table.all:
            with pytest.raises(ValueError, match=r"3 frames do not fit|frames were added after"):
                ask(u64([1, 2, 3]), np.zeros(size, np.uint32))


def test_no_counts_were_read():
    table = filled([1, 2, 3])
    with pytest.raises(ValueError, match="frames were added after"):
        table.sums(u64([1, 2, 3]), np.array([3]), np.zeros((1, 3), np.uint64))


def test_counts_cannot_be_read(tmp_path):
    table = filled([1])
    with (tmp_path / "closed").open("wb") as file:
        for ask in table.read, table.totals:
            with pytest.raises(OSError, match="named so"):
                ask(file.fileno(), "named so")


@pytest.mark.root
def test_memory_runs_out_during_a_walk():
    """Which says so as everywhere: what asks others, or goes on without one, looks for that."""

    def ask():
        with fpm.Group([os.getpid()]) as group:
            seccomp.without_mremap()
            with pytest.raises(MemoryError, match="/proc/"):
                group.total()

    with backed.memfd(1 << 14) as made:
        made.read()
        runas.in_child(ask)


@pytest.mark.root
@pytest.mark.parametrize("kind", cgroups.LIMITS)
def test_a_table_that_does_not_fit_into_memory(kind):
    """Its hash table counts as well: four million frames far from each other take 130 MiB."""
    frames = np.arange(0, 32 << 20, 8, np.uint64)

    def ask():
        cgroups.join(path)
        table = FrameTable()
        with pytest.raises(MemoryError, match=r"bytes for frames need .* MiB are available"):
            table.add(frames)
        return table.pages

    with cgroups.limited(kind, 64 << 20) as path:
        assert 0 < runas.in_child(ask) < len(frames)
