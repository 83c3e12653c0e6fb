"""Runs and mappings written down by hand."""

import numpy as np

from fastpagemap import RUN_DTYPE, Mapping


def runs(*rows):
    return np.array(list(rows), RUN_DTYPE)


def mapping(start, end, path=""):
    return Mapping(start, end, "rw-p", 0, 0, 0, path)


def tuples(found):
    return [tuple(map(int, row)) for row in found]
