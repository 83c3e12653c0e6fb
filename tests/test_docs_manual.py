"""What `make manual` makes of --help: a page of the site, and one for man."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from needs import need

DOCS = Path(__file__).resolve().parent.parent / "docs"
MAN_PAGE = DOCS / "fastpagemap.1"


@pytest.mark.parametrize(("program", "page"), [("manual", "cli.md"), ("man_page", MAN_PAGE.name)])
def test_they_are_up_to_date(program, page):
    made = subprocess.run([sys.executable, DOCS / f"{program}.py"], stdout=subprocess.PIPE)
    assert (DOCS / page).read_text() == made.stdout.decode()


def test_man_shows_the_page():
    """Without a warning, and each line as it was written."""
    need(shutil.which("man") and shutil.which("groff"), "man and groff (Debian: man-db, groff)")
    words = ["man", "--warnings=w", "--local-file", str(MAN_PAGE)]
    environment = os.environ | {"MANWIDTH": "200", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(words, capture_output=True, env=environment, text=True, check=True)
    assert done.stderr == ""
    for line in (
        "fastpagemap - show what Linux knows of a process's memory, page by page",
        "fastpagemap map 1234 -o heap.png --path '[heap]'",
        "--by node|mapcount|order",
        "EXIT CODES",
    ):
        assert line in done.stdout
