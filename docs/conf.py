"""How Sphinx makes the site: ``make docs``. A warning fails it, and it needs no network."""

import re
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

project = "fastpagemap"
copyright = "the fastpagemap developers, MIT licence"
version = release = installed("fastpagemap")

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "myst_parser"]
exclude_patterns = ["**/_*"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist"]
# Links to a heading, such as page.md#a-heading, down to this level of headings.
myst_heading_anchors = 3

# The pages list what they document. numpydoc lays out the docstrings, which give the types.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autosummary_generate = False
numpydoc_show_class_members = False
# The examples of one docstring follow the two imports that `help(fastpagemap)` names.
numpydoc_use_plots = False

html_theme = "furo"
html_title = f"fastpagemap {release}"
# The pages are read from files, too, where a copy of the sources would be of no use.
html_copy_source = False
html_show_sourcelink = False


def only_written(app: Any, page: str, source: list[str]) -> None:
    """Leave out of the front page what is not there yet: pages are written one by one."""
    if page == "index":
        lines = source[0].splitlines(keepends=True)
        source[0] = "".join(line for line in lines if is_written(line.strip()))


def is_written(entry: str) -> bool:
    """Return whether there is a page of this name; all that is no name is there."""
    named = re.fullmatch(r"[a-z_/-]+\*?", entry)
    return named is None or any(Path(__file__).parent.glob(f"{entry}.md"))


def setup(app: Any) -> None:
    """Have Sphinx call what is above."""
    app.connect("source-read", only_written)
