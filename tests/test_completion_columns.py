"""What shells complete the name of a column to, also after a comma."""

import pytest

from fastpagemap.report import conditions
from fastpagemap.report.report import MORE_SIZES, SIZES
from shells import SHELLS, Shell, as_answer, completed

pytest.importorskip("click")


@pytest.mark.parametrize(
    ("words", "columns"),
    [
        ("report --sort", conditions.COLUMNS),
        ("report --filter", conditions.COLUMNS),
        ("report --min", conditions.SIZE_COLUMNS),
        ("report --columns", conditions.SHOWN_COLUMNS),
        ("record --columns", (*SIZES, *MORE_SIZES)),
    ],
)
def test_columns_that_an_option_takes(words, columns):
    for beginning in "su":
        fitting = [("plain", name) for name in columns if name.startswith(beginning)]
        assert completed("bash", *words.split(), beginning) == as_answer("bash", *fitting)


def test_columns_after_a_comma():
    def answers(word):
        return completed("bash", "report", "--columns", word).splitlines()

    assert answers("pss,sha") == ["plain,pss,shared"]
    assert answers("present,size,p") == ["plain,present,size,pss"]  # present is there already
    assert f"plain,pss,{conditions.SHOWN_COLUMNS[0]}" in answers("pss,")
    assert answers("$(>m),p") == [""]


@pytest.mark.parametrize("shell", SHELLS)
def test_shells_complete_after_a_comma(shell, tmp_path):
    with Shell(shell, tmp_path) as one:
        assert one.ran_with(b"--columns size,pre") == [b"--columns", b"size,present"]
