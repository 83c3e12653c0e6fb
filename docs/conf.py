"""How Sphinx makes the site: ``make docs``. A warning fails it, and it needs no network."""

import os
import re
import tempfile
from importlib.metadata import version as installed
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import fastpagemap

project = "fastpagemap"
copyright = "the fastpagemap developers, MIT licence"
version = release = installed("fastpagemap")

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "myst_nb"]
exclude_patterns = ["**/_*"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist"]
# Links to a heading, such as page.md#a-heading, down to this level of headings.
myst_heading_anchors = 3

# A notebook runs anew for each site, and reads and writes nothing of the user's home.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
HOME = tempfile.TemporaryDirectory(prefix="fastpagemap-docs-")
for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
    os.environ[name] = HOME.name

# The pages list what they document. numpydoc lays out the docstrings, which give the types.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autosummary_generate = False
numpydoc_show_class_members = False
# Options begin with two hyphens, and commands are copied with their quotes.
smartquotes = False
highlight_language = "text"

html_theme = "furo"
html_title = f"fastpagemap {release}"
# The pages are read from files, too, where a copy of the sources would be of no use.
html_copy_source = False
html_show_sourcelink = False


def link_names(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Make a link of each public name that a docstring has between double backquotes."""
    lines[:] = [re.sub(r"``([A-Za-z_][\w.]*)``", linked, line) for line in lines]


def linked(quoted: re.Match[str]) -> str:
    """Return a link to a class, a function or a method; anything else as it is."""
    found: Any = fastpagemap
    for part in quoted[1].split("."):
        found = getattr(found, part, None)
    public = quoted[1].partition(".")[0] in fastpagemap.__all__
    if public and (callable(found) or isinstance(found, property)):
        return f":py:obj:`{quoted[1]} <fastpagemap.{quoted[1]}>`"
    return quoted[0]


class Flags(SphinxDirective):
    """A table of the names and numbers of an enumeration of flags."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        flags = getattr(fastpagemap, self.arguments[0])
        rows = [f"``{flag.name}``, {flag.bit_length() - 1}, ``{int(flag):#x}``" for flag in flags]
        table = [".. csv-table::", "   :header: name, bit, number", ""]
        return self.parse_text_to_nodes("\n".join([*table, *(f"   {row}" for row in rows)]))


def setup(app: Any) -> None:
    """Have Sphinx call what is above."""
    app.connect("autodoc-process-docstring", link_names)
    app.add_directive("flags", Flags)
