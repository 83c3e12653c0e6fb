"""Every command in the README and in docs/ is one, with options that it has."""

import re
from pathlib import Path

import click
import pytest

from fastpagemap.cli.group import COMMANDS, RENAMED, cli

PROJECT = Path(__file__).resolve().parent.parent
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
CODE = re.compile(r"^```\w*\n.*?^```|`[^`\n]+`|^ {4}[^\n]*", re.DOTALL | re.MULTILINE)
#: Up to what a shell, or a reader, takes for something else.
SHOWN = re.compile(r"(?:^|[`$ ]|bin/)fastpagemap ([^`|#>&;\n]+)", re.MULTILINE)


def commands():
    for page in PAGES:
        code = "\n".join(CODE.findall(page.read_text()))
        for shown in SHOWN.findall(code):
            words = shown.split("  ")[0].split()
            if words and re.match(r"[-\w.]", words[0]):
                yield str(page.relative_to(PROJECT)), words


def options(name):
    command = cli.get_command(click.Context(cli), name)
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    return known | {"-h", "--help"}


def test_commands_are_found():
    assert len(list(commands())) > 100


@pytest.mark.parametrize("page", sorted({name for name, _ in commands()}))
def test_options(page):
    for _, words in (found for found in commands() if found[0] == page):
        if "--version" in words:
            continue
        name = words[0] if words[0] in (*COMMANDS, *RENAMED) else "report"
        program = next((at for at, word in enumerate(words) if word.endswith(".py")), len(words))
        own = words[: program if name in ("forks", "run", "writes") else len(words)]
        given = {word.partition("=")[0].strip(",") for word in own if re.match(r"--?[a-z]", word)}
        assert given <= options(name), f"{page}: fastpagemap {' '.join(words)}"
