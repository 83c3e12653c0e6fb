"""Which state a page, and a cell of many pages, is shown in; and that the eye can tell them."""

import itertools

import numpy as np
import pytest

import fastpagemap as fpm
from fastpagemap import State
from fastpagemap.report import palette

PAGE = fpm.PAGE_SIZE
BASE = 0x7F0000000000


def shown(word, **options):
    return palette.KEYS[palette.display([word], **options)[0]]


@pytest.mark.parametrize(
    ("word", "key"),
    [
        (0, "untouched"),
        (State.SOFT_DIRTY, "untouched"),
        (State.PRESENT, "anonymous"),
        (State.PRESENT | State.EXCLUSIVE | State.SOFT_DIRTY, "anonymous"),
        (State.PRESENT | State.SHARED, "shared"),
        (State.PRESENT | State.HUGE | State.SHARED, "huge"),
        (State.PRESENT | State.ZERO, "zero"),
        (State.PRESENT | State.ZERO | State.HUGE, "zero"),
        (State.SWAPPED, "swapped_anonymous"),
        (State.SWAPPED | State.SWAPPED_SHARED, "swapped_shared"),
        (State.UNKNOWN, "unknown"),
        (State.GUARD, "guard"),
    ],
)
def test_a_page(word, key):
    assert shown(word) == key


def test_soft_dirty_when_asked_for():
    assert shown(State.PRESENT | State.SOFT_DIRTY, soft_dirty=True) == "soft_dirty"
    assert shown(State.SOFT_DIRTY, soft_dirty=True) == "untouched"
    assert shown(State.SWAPPED | State.SOFT_DIRTY, soft_dirty=True) == "swapped_anonymous"


def made(*runs):
    """Runs of (first page, last page, state)."""
    rows = [(BASE + low * PAGE, BASE + high * PAGE, int(state)) for low, high, state in runs]
    return np.array(rows, fpm.RUN_DTYPE)


def cells(runs, pages, count, **options):
    found = palette.cells(runs, BASE, BASE + pages * PAGE, count, **options)
    return "".join(palette.STATES[index].char for index in found)


def test_a_cell_a_page():
    runs = made((0, 2, State.PRESENT), (3, 4, State.SWAPPED), (6, 8, State.UNKNOWN))
    assert cells(runs, 8, 8) == "##.s..??"


def test_most_of_what_was_touched_wins():
    runs = made(
        (0, 1, State.PRESENT), (10, 14, State.PRESENT), (14, 20, State.PRESENT | State.SHARED)
    )
    assert cells(runs, 30, 3) == "#=."


def test_what_is_rare_and_matters_shows_from_an_eighth_on():
    rare = [(7, 8, State.SWAPPED), (23, 24, State.UNKNOWN)]
    common = [(low, high, State.PRESENT) for low, high in ((0, 7), (8, 16), (16, 23), (24, 40))]
    runs = made(*sorted(rare + common))
    assert cells(runs, 40, 5) == "s#?##"


def test_nothing_vanishes():
    states = [State.SWAPPED, State.UNKNOWN, State.GUARD, State.PRESENT | State.ZERO]
    rare = [(at * 1000, at * 1000 + 1, state) for at, state in enumerate(states, 1)]
    edges = [0, *[at for low, high, _ in rare for at in (low, high)], 100_000]
    common = [(low, high, State.PRESENT) for low, high in zip(edges[::2], edges[1::2], strict=True)]
    found = cells(made(*sorted(rare + common)), 100_000, 100)
    assert sorted(set(found)) == sorted("s?|0#")
    assert found.count("#") == 96


def test_amounts_are_those_of_a_slow_twin():
    random = np.random.default_rng(7)
    edges = np.sort(random.choice(3000, 400, replace=False))
    words = random.choice([1, 2, 9, 65, 129, 514, 4, 256], 200)
    runs = made(*zip(edges[::2], edges[1::2], words, strict=True))
    pages = np.full(3000, palette.UNTOUCHED)
    for low, high, word in zip(edges[::2], edges[1::2], words, strict=True):
        pages[low:high] = palette.display([word])[0]
    count, first, last = 100, 200, 2700
    found = palette.amounts(runs, BASE + first * PAGE, BASE + last * PAGE, count)
    for cell, inside in enumerate(np.split(pages[first:last], count)):
        expected = np.bincount(inside, minlength=len(palette.STATES)) * PAGE
        assert found[cell] == pytest.approx(expected, abs=1e-3)


def test_an_empty_span_and_the_last_page_of_all():
    assert cells(made(), 10, 5) == "....."
    top = 1 << 64
    runs = np.array([(top - 2 * PAGE, top - PAGE, 1)], fpm.RUN_DTYPE)
    assert palette.cells(runs, top - 4 * PAGE, top - PAGE, 3).tolist() == [9, 9, 0]


# ---- the eye -----------------------------------------------------------------------------------


def linear(colour):
    parts = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIE L*a*b* of linear sRGB, D65."""
    matrix = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    scaled = matrix @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089]
    x, y, z = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


# Machado, Oliveira, Fernandes 2009, severity 1.0
EYES = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


@pytest.mark.parametrize("eye", EYES)
def test_colours_are_told_apart_by_every_eye(eye):
    seen = {state.key: lab(EYES[eye] @ linear(state.colour)) for state in palette.STATES}
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 10, (one, other)


def test_colours_are_told_apart_in_grey():
    lightness = sorted(lab(linear(state.colour))[0] for state in palette.STATES)
    assert min(np.diff(lightness)) > 6


def test_characters_and_labels_are_all_different():
    for field in ("key", "label", "char", "colour"):
        assert len({getattr(state, field) for state in palette.STATES}) == len(palette.STATES)
