"""The tests' own house: what is shared lies in helpers, and every list of tests names tests."""

import ast
import importlib
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
FILES = sorted(TESTS.glob("test_*.py"))


@pytest.mark.parametrize("path", sorted(TESTS.glob("*.py")), ids=lambda path: path.stem)
def test_nothing_imports_a_test_module(path):
    imported = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported.append(node.module or "")
    assert not [name for name in imported if name.startswith(("test_", "conftest"))]


def test_files_are_short():
    long = {path.name for path in TESTS.rglob("*.py") if path.read_text().count("\n") >= 300}
    assert not long


def test_what_runs_on_other_kernels_is_there():
    """A name that no test has any more would leave out, or run, something else in silence."""
    inside = importlib.import_module("kernels.inside")
    for name in [*inside.QUICK, *inside.LEFT_OUT]:
        file, _, test = name.partition("::")
        found = [path.read_text() for path in TESTS.glob(file)]
        test = test.partition("[")[0]
        assert any(re.search(rf"^def {test}", text, re.MULTILINE) for text in found), name
