"""What shells complete, with names that strangers chose: nothing of them runs or is taken apart.

Real shells on a terminal, real processes, real files. The shells run a `fastpagemap` that completes
as the real one does, and otherwise writes down what arguments the shell gave it.
"""

import contextlib
import os
import signal
import string

import pytest

import linux
from shells import SHELLS, Shell, as_answer, completed, forked

pytest.importorskip("click")

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


def _process_called(name):
    reader, writer = os.pipe()
    pid = forked(os.fork)
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
