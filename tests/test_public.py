"""What people find at the top: the public names, and the examples in their docstrings."""

import doctest
import importlib
import inspect
import mmap
import os

import numpy as np
import pytest

import fastpagemap as fpm
from documented import missing, run_doctest
from fastpagemap import profiles

CALLABLE = [name for name in fpm.__all__ if callable(getattr(fpm, name))]


def docstrings(name):
    """Yield the examples of a public name: its own, its methods' and those it inherits."""
    thing = getattr(fpm, name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    for part in inspect.getmro(thing) if inspect.isclass(thing) else [thing]:
        if part.__module__.startswith("fastpagemap"):
            module = importlib.import_module(part.__module__)
            yield from finder.find(part, part.__qualname__, module)


def run(test):
    test.globs = {"fpm": fpm, "np": np, "mmap": mmap, "os": os}
    try:
        run_doctest(test)
    except (OSError, ModuleNotFoundError) as error:
        raise missing(error, f"the example of {test.name}") from error


def test_the_page_of_orientation():
    (test,) = doctest.DocTestFinder(recurse=False).find(fpm)
    run(test)
    unnamed = [name for name in CALLABLE if f"``{name}" not in fpm.__doc__]
    # what others return or raise
    assert set(unnamed) <= {"Capabilities", "Flag", "KPF", "Mapping", "Masks", "Pages"} | {
        "SnapshotError"
    }


@pytest.mark.parametrize("name", CALLABLE)
def test_examples(name):
    found = [test for test in docstrings(name) if test.examples]
    assert found or issubclass(getattr(fpm, name), Exception)
    for test in found:
        run(test)


def test_examples_of_profiles():
    (found,) = doctest.DocTestFinder().find(profiles.write, "write", profiles)
    run(found)


def test_dir_shows_the_public_names_alone():
    assert dir(fpm) == sorted(fpm.__all__)
    everything = {}
    exec("from fastpagemap import *", everything)
    del everything["__builtins__"]
    assert sorted(everything) == sorted(fpm.__all__)
