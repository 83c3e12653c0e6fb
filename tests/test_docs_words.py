"""The pages agree: one list has all words, and a summary has figures of its table."""

import re
from pathlib import Path

import fastpagemap as fpm

DOCS = Path(__file__).resolve().parent.parent / "docs"
#: A figure with its unit, as the table of measurements has them.
FIGURE = re.compile(r"[\d.]+ (?:ms|us)\b")


def terms():
    """The words that docs/glossary.md defines."""
    [listed] = re.findall(
        r"^```{glossary}\n(.*?)^```", (DOCS / "glossary.md").read_text(), re.M | re.S
    )
    return re.findall(r"^(?! )(.+)$", listed, re.MULTILINE)


def test_the_glossary_has_the_words_of_the_tables():
    words = re.findall(r"^\| ([^|]+) \| [^-]", (DOCS / "words.md").read_text(), re.MULTILINE)
    assert {"present", "`[anon]`"} < set(words)
    assert set(words) - {"word"} <= set(terms())


def test_the_glossary_has_the_states():
    names = {state.name.lower().replace("_", " ") for state in fpm.State}
    other = {"guard": "guard region", "soft dirty": "soft-dirty"}
    assert {other.get(name, name) for name in names} <= set(terms())


def test_the_glossary_has_each_word_once():
    words = [word.lower() for word in terms()]
    assert len(set(words)) == len(words)


def test_the_summary_of_speed_has_figures_of_the_table():
    page = (DOCS / "performance.md").read_text()
    summary, _, rest = page.partition("## The table")
    found = FIGURE.findall(summary)
    assert len(found) > 5
    measured = set(FIGURE.findall(rest.partition("<!-- measured: end -->")[0]))
    assert set(found) <= measured
