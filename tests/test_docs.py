"""The pages of documentation: each example runs, each command is one, each name is described.

A page's blocks of ```python and ```pycon run in their order and share their names, as if a reader
typed them. They may suppose `pid`, another process that has a child, and `path`, a file on a disk.
A block that cannot run has a line before it, <!-- not run: REASON -->; one that only root can run
has <!-- needs root -->.
"""

import doctest
import itertools
import os
import re
import shlex
import tempfile
from pathlib import Path

import click
import pytest

import backed
import fastpagemap as fpm
from documented import missing, run_doctest
from fastpagemap import profiles
from fastpagemap.cli.group import cli
from needs import Missing, need

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
BLOCK = re.compile(
    r"^(?:<!-- (?:(?P<root>needs root)|not run: (?P<reason>.+?)) -->\n+)?"
    r"```(?P<kind>python|pycon)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
#: A command at the beginning of a line of code, or after a pipe; and between backquotes.
IN_CODE = re.compile(
    r"(?:^(?:    )?(?:[$#] )?|\| )(?:sudo |ssh \w+ )*(?:[\w./]+/)?fastpagemap(?= |$)(.*)",
    re.MULTILINE,
)
IN_SENTENCE = re.compile(r"`(?:sudo )?fastpagemap ([^`]+)`")
#: What stands for more words.
MORE = {"...", "…"}


def blocks(page):
    """Yield the examples of a page that run: who can, their kind, their code and their line."""
    text = page.read_text()
    for block in BLOCK.finditer(text):
        if block["reason"] is None:
            line = text.count("\n", 0, block.start("code"))
            yield block["root"] is not None, block["kind"], block["code"], line


def commands(page):
    """Yield the words after fastpagemap of each command, and whether it stands in a sentence."""
    text = page.read_text().replace("\\\n", " ")  # a line that ends with a backslash goes on
    sentences = FENCED.sub("", text)
    code = [*FENCED.findall(text), *re.findall("^    .*", sentences, re.MULTILINE)]
    for found in IN_CODE.findall("\n".join(code)):
        yield words(found), False
    for found in IN_SENTENCE.findall(sentences):
        yield words(found), True


def words(command):
    """Split a command as a shell does, up to a pipe or whatever else ends it."""
    found = shlex.shlex(command, posix=True, punctuation_chars=True)
    found.whitespace_split = True
    return list(itertools.takewhile(lambda word: not set(word) <= set("();<>|&"), found))


def name(page):
    return str(page.relative_to(ROOT))


def run(kind, code, page, line, names):
    """Run one example; its errors and tracebacks name the page and the line."""
    if kind == "python":
        exec(compile("\n" * line + code, page, "exec"), names)
        return
    test = doctest.DocTestParser().get_doctest(code, {}, name(page), str(page), line)
    test.globs = names  # and no copy: the next block goes on from here
    run_doctest(test)


@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page))], ids=name)
def test_examples(page, victim, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    victim.make("touched", 500)
    victim.fork()
    lacking = None
    with tempfile.NamedTemporaryFile(dir=backed.disk_directory()) as file:
        file.write(bytes(1 << 20))
        file.flush()
        names = {"__name__": "__main__", "pid": victim.pid, "path": file.name}
        for needs_root, kind, code, line in blocks(page):
            try:
                if needs_root:
                    need(os.geteuid() == 0, "root")
                run(kind, code, page, line, names)
            except Missing as error:
                lacking = lacking or error
            except Exception as error:
                # What an example that could not run would have named is missed by later ones.
                if not (lacking and isinstance(error, NameError)):
                    lacking = lacking or missing(error, f"an example of {name(page)}")
    if lacking:
        raise lacking


def test_blocks_are_found():
    """Every fence of Python, also one that is indented or not closed as it should be."""
    for page in PAGES:
        fences = len(re.findall(r"^\s*(?:```|~~~)\s*(?:python|pycon|py)\b", page.read_text(), re.M))
        assert fences == len(list(BLOCK.finditer(page.read_text()))), page


# The examples of --help, of which cli.md is made, are run by test_help_examples.py.
@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "cli.md"], ids=name)
def test_commands_are_such(page, monkeypatch):
    """Each is understood, with its options; it is not run."""
    monkeypatch.setattr(click.Command, "invoke", lambda self, context: None)
    for given, in_sentence in commands(page):
        if MORE & set(given):
            continue
        try:
            cli.main(given, "fastpagemap", standalone_mode=False)
        except click.exceptions.Exit:  # of --help and --version
            pass
        except click.ClickException as error:
            if in_sentence and isinstance(error, (click.MissingParameter, click.BadOptionUsage)):
                continue  # named without what it needs
            pytest.fail(f"fastpagemap {shlex.join(given)}: {error.format_message()}")


def test_every_public_name_is_in_the_reference():
    """The site's build looks up what the pages name; here it is that they name all."""
    text = "\n".join(page.read_text() for page in ROOT.glob("docs/reference/python/*.md"))
    described = set(re.findall(r"^\.\. (?:auto\w+|data):: (?:fastpagemap\.)?([\w.]+)", text, re.M))
    assert set(fpm.__all__) | {"metrics.Collector"} <= described
    assert set(profiles.__all__) - {"Frame", "Rows"} <= described  # names of types
