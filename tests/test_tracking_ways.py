"""docs/tracking.md says what this kernel tells of each way to change memory."""

import pytest

import pages
from needs import Absent, need
from outcomes import KINDS, REFUSED, REFUSES, outcome, tracks
from ways import WAYS

pytestmark = pytest.mark.usefixtures("_write_tracking")


@pytest.fixture(scope="module")
def page():
    """The module that makes the page."""
    return pages.maker("tracking")


def on_page(page, kind):
    need(page.kernel() in page.KERNELS, f"a kernel of docs/tracking.md ({page.KERNELS})", Absent)
    found = page.parsed((pages.DOCS / "tracking.md").read_text())[page.kernel()]
    return {way: found[way][kind] for way in WAYS}


@pytest.mark.root
@pytest.mark.parametrize("kind", KINDS)
def test_tracked(page, kind):
    wanted, make = on_page(page, kind), KINDS[kind]
    assert tracks(make) == (set(wanted.values()) != {REFUSES})
    if tracks(make):
        assert {way: outcome(make, way) or page.NONE for way in WAYS} == wanted


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind):
    assert not tracks(REFUSED[kind])
