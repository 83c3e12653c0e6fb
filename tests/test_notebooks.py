"""What a notebook shows of a PageMap, of snapshots and of masks."""

import numpy as np
import pytest

import fastpagemap as fpm
from linux import PAGE

pytest.importorskip("click")


def test_notebooks(victim):
    span = victim.make("touched", 50)
    with fpm.PageMap(victim.pid) as pagemap:
        shown = [pagemap, pagemap.snapshot(), pagemap.masks(span.start, span.end)]
        texts = [one._repr_html_() for one in shown]
        assert f"process {victim.pid}" in texts[0]
        assert "50 pages" in texts[2]
        victim.kill()
        assert pagemap._repr_html_() is None
    for text in texts:
        assert text.startswith("<table>")
        assert text.endswith("</table>")
    assert pagemap._repr_html_() is None


def test_names_are_escaped_in_notebooks():
    mapping = fpm.Mapping(PAGE, 2 * PAGE, "rw-p", 0, 1, 2, "/<script>&\x1b")
    with fpm.PageMap() as pagemap:
        import dataclasses

        states = np.array([(PAGE, 2 * PAGE, 1)], fpm.RUN_DTYPE)
        made = dataclasses.replace(pagemap.snapshot(), mappings=[mapping], states=states)
    assert "/&lt;script&gt;&amp;\\x1b" in made._repr_html_()


def test_plot(tmp_path):
    pytest.importorskip("matplotlib")
    with fpm.PageMap() as pagemap:
        snapshot = pagemap.snapshot()
    figure = snapshot.plot(width=800)
    assert figure._repr_png_().startswith(b"\x89PNG")
    figure.savefig(tmp_path / "a.png")
    some = [mapping for mapping in snapshot.mappings if "libc" in mapping.path]
    assert snapshot.plot(some).get_figheight() < figure.get_figheight()
