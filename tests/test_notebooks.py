"""What a notebook shows: of a PageMap, snapshots, differences, masks, pages and capabilities."""

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import fastpagemap as fpm
from linux import PAGE

pytest.importorskip("click")

NOTEBOOK = Path(__file__).resolve().parent.parent / "docs" / "notebook.ipynb"


class Table(HTMLParser):
    """Reads a table, and the page around it: a tag that is not closed is an error."""

    def __init__(self, text):
        super().__init__()
        self.open, self.caption, self.rows = [], "", []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        if tag == "br":
            self.caption += "\n"
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.style = dict(attrs).get("style", "")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] == "caption":
            self.caption += data
        else:
            self.rows[-1][-1] += data


def test_notebooks(victim):
    span = victim.make("touched", 50)
    with fpm.PageMap(victim.pid) as pagemap:
        of_span = span.start, span.end
        shown = [pagemap, pagemap.snapshot(), pagemap.masks(*of_span), pagemap.read(*of_span)]
        texts = [one._repr_html_() for one in shown]
        assert f"process {victim.pid}" in texts[0]
        assert "50 pages" in texts[2]
        assert "50 pages" in texts[3]
        assert f"<td>50</td><td>{50 * PAGE // 1024}Ki</td>" in texts[3]
        victim.kill()
        assert pagemap._repr_html_() is None
    for text in texts:
        assert text.startswith("<table>")
        assert text.endswith("</table>")
    assert pagemap._repr_html_() is None


def test_names_are_escaped_in_notebooks():
    mapping = fpm.Mapping(PAGE, 2 * PAGE, "rw-p", 0, 1, 2, "/<script>&\x1b")
    with fpm.PageMap() as pagemap:
        states = np.array([(PAGE, 2 * PAGE, 1)], fpm.RUN_DTYPE)
        made = dataclasses.replace(pagemap.snapshot(), mappings=[mapping], states=states)
    assert "/&lt;script&gt;&amp;\\x1b" in made._repr_html_()


def made_of(mappings, states):
    """A snapshot with these mappings and states, of this process."""
    taken = fpm.PageMap().snapshot()
    return dataclasses.replace(taken, mappings=mappings, states=np.array(states, fpm.RUN_DTYPE))


def test_columns_of_zeros_are_left_out():
    mapping = fpm.Mapping(PAGE, 9 * PAGE, "rw-p", 0, 0, 0, "/a file")
    table = Table(made_of([mapping], [(PAGE, 3 * PAGE, 1)])._repr_html_())
    assert table.rows[0] == ["start", "permissions", "size", "present", "path"]
    assert table.rows[1][2:] == [f"{8 * PAGE >> 10}Ki", f"{2 * PAGE >> 10}Ki", "/a file"]
    _, note = table.caption.splitlines()
    assert note.startswith("0 everywhere: swapped, swapped_shared, unknown, shared, exclusive")


def test_a_difference():
    mappings = [fpm.Mapping(n * PAGE, (n + 4) * PAGE, "rw-p", n, 1, n, f"/{n}") for n in (4, 8, 12)]
    before = made_of(mappings[:2], [(4 * PAGE, 6 * PAGE, 1)])
    after = made_of(
        mappings, [(4 * PAGE, 5 * PAGE, 1), (5 * PAGE, 6 * PAGE, 2), (12 * PAGE, 15 * PAGE, 1)]
    )
    table = Table(before.diff(after)._repr_html_())
    assert " to " in table.caption
    assert f"Newly mapped: {4 * PAGE >> 10}Ki" in table.caption
    assert table.rows[0] == ["start", "permissions", "size", "swapped_out", "faulted_in", "path"]
    assert [row[-1] for row in table.rows[1:]] == ["/12", "/4", "2 mappings"]  # most changed first
    assert [row[3] for row in table.rows[1:]] == ["0", *[f"{PAGE >> 10}Ki"] * 2]
    nothing = Table(after.diff(after)._repr_html_())
    assert nothing.rows[1:] == [["total", "", "0 mappings"]]
    assert nothing.caption.endswith("\nNo page changed.")
    assert Table(made_of([], [])._repr_html_()).caption.endswith("\nNothing is mapped.")


def test_capabilities():
    known = fpm.capabilities()
    table = Table(known._repr_html_())
    assert [f"{name:<21} {text}" for name, text in table.rows[1:]] == str(known).splitlines()


def test_long_paths_stay_within_their_cell():
    """Whole, but broken where the cell ends: the other columns stay in sight."""
    path = "/" + "directory/" * 60 + "file"
    table = Table(made_of([fpm.Mapping(PAGE, 2 * PAGE, "r--p", 0, 1, 2, path)], [])._repr_html_())
    assert table.rows[1][-1] == path
    assert "max-width" in table.style
    assert "overflow-wrap: anywhere" in table.style


def test_plot(tmp_path):
    pytest.importorskip("matplotlib")
    with fpm.PageMap() as pagemap:
        snapshot = pagemap.snapshot()
    figure = snapshot.plot(width=800)
    assert figure._repr_png_().startswith(b"\x89PNG")
    figure.savefig(tmp_path / "a.png")
    some = [mapping for mapping in snapshot.mappings if "libc" in mapping.path]
    assert snapshot.plot(some).get_figheight() < figure.get_figheight()


@pytest.mark.parametrize("wrong", [np.ones(10_000), [1, 2], 7, ["present"]], ids=str)
def test_what_is_plotted_are_mappings(wrong):
    pytest.importorskip("matplotlib")
    with fpm.PageMap() as pagemap:
        snapshot = pagemap.snapshot()
    for given in (wrong, snapshot.mappings[0]):
        with pytest.raises(TypeError, match=r"a list of mappings is needed, as from PageMap"):
            snapshot.plot(given)


# Of the libraries that run it: they are new, and warn of what comes.
@pytest.mark.filterwarnings("default")
def test_the_notebook_of_the_docs(tmp_path, monkeypatch):
    """It runs from top to bottom, and shows tables and a picture; what is kept has no outputs."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("ipykernel")
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))  # nothing is written to, or read from, a home
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    patience = {"timeout": 120, "startup_timeout": 120}
    nbclient.NotebookClient(notebook, kernel_name="python3", **patience).execute()
    shown = [output["data"] for cell in cells for output in cell.outputs if "data" in output]
    assert any(re.fullmatch(r"'\d+ of 64 MiB are in RAM'", data["text/plain"]) for data in shown)
    captions = [Table(data["text/html"]).caption for data in shown if "text/html" in data]
    # a thread of Jupyter may map memory in the same moment
    mapped = r"Newly mapped: (3[2-9]|[4-9]\d|\d{3})[.\d]*Mi"
    for said in ("pages, ", "process ", mapped, "what this kernel and this user"):
        assert any(re.search(said, caption) for caption in captions), captions
    assert sum("image/png" in data for data in shown) == 1
