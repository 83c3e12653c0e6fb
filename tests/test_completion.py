"""What shells complete, with names that strangers chose: nothing of them runs or is taken apart.

Real shells on a terminal, real processes, real files. The shells run a `fastpagemap` that completes
as the real one does, and otherwise writes down what arguments the shell gave it.
"""

import contextlib
import os
import pty
import select
import shlex
import shutil
import signal
import string
import struct
import sys
import termios
import time
import warnings
from fcntl import ioctl

import pytest

import commandline
import linux
from fastpagemap.report import conditions
from needs import need

pytest.importorskip("click")

SHELLS = ["bash", "zsh", "fish"]
#: Nobody else's processes have names that begin so.
PREFIX = f"q{os.getpid():x}"
#: What a shell acts upon; where it runs a command, that makes the file "m".
ACTED_UPON = [
    b";>m", b"$(>m)", b"`>m`", b"&>m&", b"|>m", b"\n>m", b" >m", b"<(>m)", b"*", b"{a,b}", b"!!",
]  # fmt: skip
#: What is no plain word either: it breaks click's protocol, a terminal, or words in one shell.
HOSTILE = [
    *ACTED_UPON, b"\n", b"\nplain,x", b",b", b"\tb", b"\x1b[5m", b"\xff", "é".encode(), b"'", b'"',
    b"\\", b":b", b"=b", b"@b", b"/b", b"~", b"^b", b"#b", b"[ab]", b"?", b"%b", b"(b)",
]  # fmt: skip
HARMLESS = b"_A.b+c-0"
INIT = {
    "bash": "PROMPT_COMMAND='((++lines))'; PS1='ready $lines> '",
    "zsh": "precmd() { ((++lines)) }; setopt promptsubst; PS1='ready $lines> '; "
    "autoload -Uz compinit; compinit -u -D",
    "fish": "set -g lines 0; function up --on-event fish_prompt; set lines (math $lines + 1); end; "
    "function fish_prompt; echo -n ready $lines'> '; end",
}
#: What is on the path of a shell as `fastpagemap`.
WRAPPER = """#!/bin/sh
if [ "$_FASTPAGEMAP_COMPLETE" ]; then
    {python} -P -m fastpagemap
    echo >>{directory}/completed
else
    printf '%s\\0' $# "$@" >>{directory}/ran
fi
"""


def run(*arguments, **variables):
    said = commandline.run(*arguments, env={**os.environ, **variables})
    assert (said.returncode, said.stderr) == (0, b"")
    return os.fsdecode(said.stdout)


def completed(shell, *words):
    """What the real command answers to click's script when TAB is pressed after these words."""
    return run(
        _FASTPAGEMAP_COMPLETE=f"{shell}_complete",
        COMP_WORDS=shlex.join(["fastpagemap", *words]),
        COMP_CWORD=shlex.quote(words[-1]) if shell == "fish" else str(len(words)),
    )


def as_answer(shell, *items):
    """The answer that has these items, each a type and a value, and no other."""
    return "".join(f"{t}\n{v}\n_\n" if shell == "zsh" else f"{t},{v}\n" for t, v in items)


@contextlib.contextmanager
def processes_called(names):
    """Keep a process of each name while the context lasts."""
    pids = []
    try:
        for name in names:
            assert len(name) < 16
            pids.append(_process_called(name))
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _forked(fork):
    with warnings.catch_warnings():  # numpy may run idle threads; the child makes no use of them
        warnings.simplefilter("ignore", DeprecationWarning)
        return fork()


def _process_called(name):
    reader, writer = os.pipe()
    pid = _forked(os.fork)
    if pid == 0:
        try:
            linux.die_with_parent()
            linux.call("prctl", 15, name)  # PR_SET_NAME
            os.write(writer, b"named")
            while True:
                signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    with open(reader, "rb") as file:
        assert file.read(5) == b"named"
    with open(f"/proc/{pid}/comm", "rb") as file:
        assert file.read() == name + b"\n"
    return pid


class Shell:
    """An interactive shell on a terminal, in a directory that strangers may write to."""

    def __init__(self, name, directory):
        path = shutil.which(name)
        need(path, name)
        self._directory, self._screen, self._lines = directory, b"", 0
        script = run("completion", name)
        for file in ("init", ".zshrc"):
            (directory / file).write_text(f"{INIT[name]}\n{script}")
        for log in ("completed", "ran"):
            (directory / log).touch()
        wrapper = directory / "fastpagemap"
        places = {"python": sys.executable, "directory": str(directory)}
        wrapper.write_text(WRAPPER.format(**{key: shlex.quote(places[key]) for key in places}))
        wrapper.chmod(0o755)
        self.here = directory / "here"
        self.here.mkdir()
        arguments = {
            "bash": ["--noprofile", "--rcfile", f"{directory}/init", "-i"],
            "zsh": ["-d", "-i"],
            "fish": ["--no-config", "-C", f"source {shlex.quote(str(directory / 'init'))}", "-i"],
        }
        environment = {
            **{name: str(directory) for name in ("HOME", "ZDOTDIR", "XDG_RUNTIME_DIR")},
            "PATH": f"{directory}:/usr/local/bin:/usr/bin:/bin",
            "TERM": "dumb",
            "LC_ALL": "C.UTF-8",
        }
        self._pid, self._terminal = _forked(pty.fork)
        if self._pid == 0:
            try:
                os.chdir(self.here)
                os.execve(path, [name, *arguments[name]], environment)
            finally:
                os._exit(1)
        ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("4H", 50, 200, 0, 0))
        self._wait_for_prompt()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        os.kill(self._pid, signal.SIGKILL)
        os.close(self._terminal)
        os.waitpid(self._pid, 0)

    def ran_with(self, typed, tabs=1):
        """Type a word and TAB, then Enter: the arguments the shell gave to fastpagemap report."""
        before, completed = self._log("ran"), len(self._log("completed"))
        self._type(b"fastpagemap report " + typed)
        for tab in range(1, tabs + 1):
            self._type(b"\t")
            self._until(lambda tab=tab: len(self._log("completed")) == completed + tab)
        self._type(b"\r")
        self._until(lambda: self._log("ran") != before)
        self._wait_for_prompt()
        count, *arguments = self._log("ran")[len(before) :].split(b"\0")[:-1]
        assert (int(count), arguments[0]) == (len(arguments), b"report")
        return arguments[1:]

    def _wait_for_prompt(self):
        self._lines += 1
        self._until(lambda: f"ready {self._lines}> ".encode() in self._screen)

    def _log(self, name):
        return (self._directory / name).read_bytes()

    def _type(self, text):
        os.write(self._terminal, text)

    def _until(self, condition):
        end = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < end, f"waited in vain; on the screen: {self._screen[-2000:]}"
            if select.select([self._terminal], [], [], 0.01)[0]:
                self._screen += os.read(self._terminal, 1 << 16)


def typed_and_names(suffixes):
    """Names that begin differently: the beginning to type for each, and the name itself."""
    typed = [f"{PREFIX}{letter}".encode() for letter in string.ascii_letters]
    return {key: key + suffix for key, suffix in zip(typed, suffixes, strict=False)}


@pytest.mark.parametrize("shell", SHELLS)
def test_no_name_of_a_process_is_acted_upon(shell, tmp_path):
    names = typed_and_names(ACTED_UPON)
    harmless = PREFIX.encode() + HARMLESS
    with processes_called([*names.values(), harmless]), Shell(shell, tmp_path) as one:
        given = {typed: one.ran_with(typed) for typed in names}
        assert os.listdir(one.here) == []
        assert given == {typed: [typed] for typed in names}
        assert one.ran_with(harmless[:-7]) == [harmless]


@pytest.mark.parametrize("shell", SHELLS)
def test_names_of_files_are_quoted(shell, tmp_path):
    # fish takes the names of files apart at newlines
    names = typed_and_names(n for n in ACTED_UPON if shell != "fish" or b"\n" not in n)
    with Shell(shell, tmp_path) as one:
        for name in names.values():
            (one.here / os.fsdecode(name)).touch()
        files = set(os.listdir(one.here))
        given = {typed: one.ran_with(typed) for typed in names}
        assert set(os.listdir(one.here)) == files
        assert given == {typed: [name] for typed, name in names.items()}


@pytest.mark.parametrize("shell", SHELLS)
def test_names_of_directories_are_no_answers(shell, tmp_path):
    """At the second TAB a shell hands the name back to the command."""
    name = f"{PREFIX}\nplain,$(>m)"
    with Shell(shell, tmp_path) as one:
        (one.here / name).mkdir()
        (one.here / name / "x").touch()
        (argument,) = one.ran_with(PREFIX.encode(), tabs=2)
        assert f"{name}/x".encode().startswith(argument)
        assert os.listdir(one.here) == [name]


@pytest.mark.parametrize("shell", SHELLS)
def test_only_plain_words_are_offered(shell):
    harmless = PREFIX.encode() + HARMLESS
    with processes_called([harmless, *(PREFIX.encode() + suffix for suffix in HOSTILE)]):
        expected = as_answer(shell, ("file", PREFIX), ("plain", os.fsdecode(harmless)))
        assert completed(shell, "report", PREFIX) == expected


@pytest.mark.parametrize(
    "name",
    ["=ls", "~root", "%job", "!!", "#x", "*x", "{a,b}", "$(id)", "`id`", ";id", "-o", "+x", ".x",
     "@x", ":x", "/x", "--csv", "4194305"],
)  # fmt: skip
def test_how_names_may_begin(name):
    with processes_called([name.encode()]):
        lines = completed("bash", "report", "--", name[:-1]).splitlines()
    assert lines[0].startswith("file,")
    assert f"plain,{name}" not in lines


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("word", "beginning"),
    [
        *((f"a{rest}", "a") for rest in ("\nplain,b", "\nplain\nb\n_", "\r", ",b", "\udcff")),
        ("a;b", "a"),
        ("a/$(b", "a/"),
        ("*", ""),
        ("a b/é", "a b/é"),
        ("../a-b_c.fpm", "../a-b_c.fpm"),
    ],
)
def test_what_was_typed_is_no_answer(shell, word, beginning):
    answer = completed(shell, "report", f"/{word}")
    assert answer == as_answer(shell, ("file", f"/{beginning}"))


@pytest.mark.parametrize(
    "words",
    ["report", "map", "watch", "top", "dump", "diff", "writes", "doctor", "files", "files a", "run",
     "memray", "memray x --pprof", "memray x --flamegraph",
     "run -o", "dump 1 -o", "map 1 --output", "report --parquet", "report x --raw --maps"],
)  # fmt: skip
def test_what_takes_a_file_completes_it(words):
    assert completed("bash", *words.split(), "/x\nplain,$(>m)") == "file,/x\n"


def test_commands_and_options():
    assert completed("bash", "rep") == "plain,report\n"
    # what begins no command may begin a file, or the name of a process
    assert completed("bash", "xyz") == "file,xyz\n"
    assert completed("bash", "xyz", "--ti") == "plain,--timeout\n"
    fitting = [name for name in conditions.COLUMNS if name.startswith("s")]
    for option in ("--sort", "--filter", "--min", "--columns"):
        found = completed("bash", "report", option, "s")
        assert found == as_answer("bash", *(("plain", name) for name in fitting))
