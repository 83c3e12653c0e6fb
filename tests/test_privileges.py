"""docs/howto/privileges.md says which user gets which answers: each is asked again here."""

import importlib.util
from pathlib import Path

import pytest

import fastpagemap as fpm
from needs import Absent, need

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.fixture(scope="module")
def script():
    """The module that makes the table."""
    spec = importlib.util.spec_from_file_location("privileges_page", DOCS / "privileges.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.root
@pytest.mark.usefixtures("any_swap")
def test_table_is_what_the_kernel_grants(script):
    known = fpm.capabilities()
    need(known.scan and known.cachestat, "PAGEMAP_SCAN and cachestat (Linux 6.7)", Absent)
    need(known.frames and known.pfn, "frame numbers")
    page = (DOCS / "howto/privileges.md").read_text()
    on_page = page.partition(script.BEGIN)[2].partition(script.END)[0]
    found = script.table()
    assert sum(map(bool, found.values())) >= len(found) - 2  # soft-dirty bits, AccessTracker
    for line in script.lines(found):
        assert line in on_page.splitlines()
