"""What is in a picture that ``fastpagemap map`` has drawn."""

import numpy as np
import pytest

image = pytest.importorskip("matplotlib.image")

from fastpagemap.report import picture  # noqa: E402


def colours(path):
    """The colour, 0xRRGGBB, of each cell of a picture of one mapping: by their middles."""
    pixels = (image.imread(path)[:, :, :3] * 255).round().astype(int)
    (left, top), (wide, high) = (picture.LEFT, picture.TOP), picture.CELL
    rows = np.arange(top + high / 2, len(pixels) - picture.BOTTOM, high).astype(int)
    columns = np.arange(left + wide / 2, pixels.shape[1] - picture.RIGHT, wide).astype(int)
    return pixels[np.ix_(rows, columns)] @ [1 << 16, 1 << 8, 1]
