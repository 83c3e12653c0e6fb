"""Every message that docs/troubleshooting.md quotes is one that the source has."""

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "troubleshooting.md"
#: What is put into a message when it is raised.
VALUE = "\0"


def quoted():
    """The messages, which are headings in `code`."""
    return re.findall(r"^### `(.+)`$", PAGE.read_text(), re.MULTILINE)


@functools.cache
def texts():
    """Every text in the source, with VALUE in place of what an f-string puts in."""
    trees = [ast.parse(path.read_text()) for path in sorted((ROOT / "src").rglob("*.py"))]
    return [text for tree in trees for node in ast.walk(tree) for text in text_of(node)]


def text_of(node):
    """The text that a node of the syntax is; none, one or, of an f-string, its parts joined."""
    if isinstance(node, ast.JoinedStr):
        return ["".join(text for part in node.values for text in text_of(part) or [VALUE])]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    return []


@pytest.mark.parametrize("message", quoted())
def test_a_message_stands_in_the_source(message):
    parts = [re.escape(part) for part in message.split("...")]
    pattern = re.compile(".*".join(parts))
    assert any(pattern.search(text) for text in texts()), message


def test_the_page_has_messages():
    assert len(quoted()) >= 25
    assert len(set(quoted())) == len(quoted())
