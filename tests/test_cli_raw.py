"""Raw entries, pipes and live files on the command line, and output into pipes."""

import fcntl
import json
import os
import subprocess
import sys
import termios

import pytest

import fastpagemap as fpm
from commandline import COMMAND, run
from fastpagemap import Snapshot
from linux import PAGE
from locked import Locked
from snapshots import check_same
from terminal import Terminal

pytest.importorskip("click")

SUFFIXES = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


def rows_of(said):
    assert (said.returncode, said.stderr) == (0, b""), said.stderr
    return json.loads(said.stdout)["rows"]


def refused(said, code=2):
    assert (said.returncode, said.stdout, said.stderr.count(b"\n")) == (code, b"", 1), said
    return said.stderr


@pytest.fixture
def saved(victim, tmp_path):
    """Entries of some memory of a process, and its maps; their options, and its rows."""
    span = victim.make("sparse", 300)
    with open(f"/proc/{victim.pid}/pagemap", "rb") as file:
        file.seek(span.start // PAGE * 8)
        (tmp_path / "entries").write_bytes(file.read(300 * 8))
    with open(f"/proc/{victim.pid}/maps", "rb") as file:
        (tmp_path / "maps").write_bytes(file.read())
    rows = [row for row in rows_of(run("report", victim.pid, "--json")) if row["start"] < span.end]
    wanted = [row for row in rows if span.start < row["end"]]
    raw = ["--raw", "--start", f"{span.start:x}"]
    return tmp_path / "entries", tmp_path / "maps", raw, wanted


def test_entries_with_maps(saved):
    entries, maps, raw, wanted = saved
    with entries.open("rb") as piped:
        from_pipe = run("report", "-", *raw, "--maps", maps, "--json", stdin=piped)
    with maps.open("rb") as piped:
        piped_maps = run("report", entries, *raw, "--maps", "-", "--json", stdin=piped)
    for said in (
        run("report", entries, *raw, "--maps", maps, "--json"),
        from_pipe,
        piped_maps,
        run("report", "-", *raw, "--maps", maps, "--json", input=entries.read_bytes()),
    ):
        found = rows_of(said)
        for name in ("permissions", "path", "present", "shared", "offset", "device", "inode"):
            assert [row[name] for row in found] == [row[name] for row in wanted]
    alone = rows_of(run("report", "-", *raw, "--json", input=entries.read_bytes()))
    assert [row["permissions"] for row in alone] == ["????"]
    assert [row["path"] for row in alone] == ["[unknown]"]
    assert {row["kind"] for row in alone} == {"unknown"}
    assert b"[unknown]" in run("report", entries, *raw).stdout


def test_diff_with_entries_names_no_stranger(saved, victim):
    """Of entries it is not known whose they are."""
    entries, maps, raw, _ = saved
    kept = run("dump", entries, *raw, "--maps", maps, "-o", "-").stdout
    said = run("diff", "-", victim.pid, input=kept)
    assert said.stderr.count(b"\n") == 1
    assert b"the same process" not in said.stderr


def test_diff_of_entries_and_a_whole_process_says_so(saved, victim, tmp_path):
    """The rest of the process is not among them: it looks dropped, or faulted in."""
    entries, _, raw, _ = saved
    (tmp_path / "part.fpm").write_bytes(run("dump", entries, *raw, "-o", "-").stdout)
    assert run("dump", victim.pid, "-o", tmp_path / "whole.fpm").returncode == 0
    for pair, change in (("part", "whole"), "faulted in"), (("whole", "part"), "dropped"):
        said = run("diff", *(f"{name}.fpm" for name in pair), cwd=tmp_path)
        assert said.returncode == 0
        wanted = "part.fpm is of saved entries: pages that are not among them count as"
        assert f"fastpagemap: {wanted} {change}\n" in said.stderr.decode()
    for name in "part", "whole":
        assert run("diff", f"{name}.fpm", f"{name}.fpm", cwd=tmp_path).stderr == b""


def test_maps_that_are_none(saved, tmp_path):
    entries, maps, raw, _ = saved
    (tmp_path / "text").write_text("hello\n")
    assert b"text: line 1" in refused(run("report", entries, *raw, "--maps", tmp_path / "text"))
    assert b"go with --raw" in refused(run("report", entries, "--maps", maps))
    assert b"one of them" in refused(run("report", "--all", "--maps", maps))
    assert b"/proc/1234567/pagemap" in refused(run("report", "--raw", "1234567"))
    refused(run("report", entries, *raw, "--maps", tmp_path / "none"), 1)
    assert b"cannot both" in refused(run("report", "-", *raw, "--maps", "-", input=b""))
    dump = ("dump", "-", "--raw", "-o", "-")
    assert b"is not one" in refused(run(*dump, "--maps", entries, input=b""))


def test_maps_of_other_addresses(saved):
    """Without --start, entries of the heap would be at address 0, where maps has nothing."""
    entries, maps, *_ = saved
    for start, beginning in ([], b"0"), (["--start", "10000000"], b"10000000"):
        said = refused(run("report", entries, "--raw", *start, "--maps", maps))
        assert b"of the entries, from " + beginning + b" on: say with --start" in said


def test_entries_that_are_none(saved):
    """They are not taken for a process without memory."""
    _, maps, raw, _ = saved
    for more in [], ["--maps", maps]:
        assert b"-: it has no entries" in refused(run("report", "-", *raw, *more, input=b""))


def test_diff_reads_no_pipe_twice(saved):
    entries, _, raw, _ = saved
    said = run("diff", entries, entries, *raw, "--maps", "-", input=b"")
    assert b"--maps - can be read once" in refused(said)


def test_a_live_pagemap_is_its_process(victim):
    path = f"/proc/{victim.pid}/pagemap"
    wanted = rows_of(run("report", victim.pid, "--json"))
    with open(path, "rb") as live:
        piped = run("report", "--raw", "-", "--json", stdin=live)
        for more in (["--start", "1000"], ["--maps", f"/proc/{victim.pid}/maps"]):
            assert b"needs no --start" in refused(run("report", "--raw", path, *more))
            assert b"needs no --start" in refused(run("report", "--raw", "-", *more, stdin=live))
        for said in (run("report", "--raw", path, "--json"), piped):
            found = rows_of(said)
            assert [row["path"] for row in found] == [row["path"] for row in wanted]
            assert [row["size"] for row in found] == [row["size"] for row in wanted]
        victim.kill()
        refused(run("report", "--raw", "-", stdin=live), 1)
    assert b"--raw" in refused(run("report", "/proc/self/pagemap"), 1)


@pytest.mark.timeout(60)
def test_a_live_pagemap_of_locked_memory():
    """It is given up, as the process is."""
    with Locked() as locked:
        locked.lock()
        said = run("report", "--raw", f"/proc/{locked.pid}/pagemap", "--timeout", "0.2")
        locked.unlock()
    assert b"its memory is locked" in refused(said, 1) or b"does not answer" in said.stderr


def test_snapshots_through_pipes(victim, tmp_path):
    """As in: dump -o - | dump - -o - | every command that takes a file."""
    kept = tmp_path / "a.fpm"
    kept.write_bytes(run("dump", victim.pid, "-o", "-").stdout)
    content = kept.read_bytes()
    assert Snapshot.load(kept).pid == victim.pid
    assert Snapshot.load(kept).states.tolist()
    for arguments in (["report", "--csv"], ["doctor"]):
        command, *more = arguments
        said = run(command, "-", *more, input=content)
        assert said.stdout
        assert said.stdout == run(command, kept, *more).stdout
        with kept.open("rb") as file:
            assert said.stdout == run(command, "-", *more, stdin=file).stdout
    again = run("dump", "-", "-o", "-", input=content)
    (tmp_path / "again").write_bytes(again.stdout)
    check_same(Snapshot.load(tmp_path / "again"), Snapshot.load(kept))
    for pair in (["-", kept], [kept, "-"]):
        assert rows_of(run("diff", *pair, "--json", input=content)) == []
    assert b"cannot both" in refused(run("diff", "-", "-", input=content))
    assert b"needs a terminal" in refused(run("watch", "-", input=content))


@pytest.mark.parametrize("kind", SUFFIXES)
def test_pictures_through_pipes(victim, kind):
    pytest.importorskip("matplotlib")
    said = run("map", victim.pid, "-o", "-", "--format", kind)
    assert (said.returncode, said.stderr) == (0, b"")
    assert said.stdout.startswith(SUFFIXES[kind])


def test_what_matplotlib_lacks_is_not_said(victim, tmp_path):
    """As where a part of it is the distribution's and another pip's; no picture needs that part."""
    pytest.importorskip("matplotlib")
    package = tmp_path / "mpl_toolkits"
    package.mkdir()
    (package / "__init__.py").touch()
    said = run(
        *("map", victim.pid, "-o", tmp_path / "a.png"),
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert (said.returncode, said.stderr) == (0, b"")


def test_the_format_of_a_picture(victim, tmp_path):
    pytest.importorskip("matplotlib")
    assert run("map", victim.pid, "-o", tmp_path / "a", "--format", "svg").returncode == 0
    assert (tmp_path / "a").read_bytes().startswith(SUFFIXES["svg"])
    assert b"--format" in refused(run("map", victim.pid, "-o", "-"))
    assert b"one of them" in refused(run("map", victim.pid, "-o", "a.png", "--format", "svg"))
    assert run("map", victim.pid, "-o", tmp_path / "a.PNG", "--format", "png").returncode == 0


def test_parquet_through_a_pipe(victim):
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    said = run("report", victim.pid, "--parquet", "-")
    assert (said.returncode, said.stderr) == (0, b"")
    table = parquet.read_table(arrow.BufferReader(said.stdout))
    assert table.num_rows == len(rows_of(run("report", victim.pid, "--json")))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["dump", "self", "-o", "-"], 2),
        (["map", "self", "--format", "svg", "-o", "-"], 2),
        (["dump", "self", "-o", "/dev/stdout"], 1),
        (["report", "-"], 2),
        (["report", "--raw", "-"], 2),
    ],
)
def test_no_bytes_to_or_from_a_terminal(arguments, code, victim):
    some = [str(victim.pid) if word == "self" else word for word in arguments]
    with Terminal(*some, command=COMMAND) as terminal:
        assert terminal.wait() == code
        assert b"terminal" in terminal.written
        assert b"PK\3\4" not in terminal.written


def test_what_is_closed(victim):
    dump = ["dump", str(victim.pid), "-o", "-"]
    for arguments, closed in ((["report", "-"], "<&-"), (dump, ">&-")):
        command = " ".join([*COMMAND, *arguments, closed])
        said = subprocess.run(command, shell=True, stderr=subprocess.PIPE)
        assert (said.returncode, said.stderr.count(b"\n")) == (1, 1)
        assert b"closed" in said.stderr


def test_a_pipe_that_does_not_wait(victim, tmp_path):
    """Its writer is slower than its reader: what comes later is read, too."""
    content = run("dump", victim.pid, "-o", "-").stdout
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with subprocess.Popen(
        [*COMMAND, "doctor", "-"], stdin=reader, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        os.close(reader)
        os.write(writer, content[:10])
        while process.poll() is None and _unread(writer):
            pass
        os.write(writer, content[10:])
        os.close(writer)
        said = process.communicate(timeout=60)
    assert said[1] == b""
    assert said[0].startswith(b"process")


def _unread(pipe):
    """Return how many bytes nobody has read yet."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_entries_of_old_kernels_stay_readable(tmp_path):
    """What is dumped of them can be opened; other page sizes are refused, and nothing is saved."""
    shift = PAGE.bit_length() - 1
    for bits, code in ((shift, 0), (shift + 1, 2)):
        words = [1 << 63 | bits << 55 | number for number in range(8)]
        content = b"".join(word.to_bytes(8, "little") for word in words)
        said = run("dump", "-", "--raw", "-o", tmp_path / f"{bits}", input=content)
        assert said.returncode == code
        assert (tmp_path / f"{bits}").exists() == (code == 0)
    kept = fpm.Snapshot.load(tmp_path / f"{shift}")
    assert kept.usage(fields=["present"])["present"].sum() == 8 * PAGE


def test_entries_of_nothing_make_no_picture(tmp_path):
    """Such as those of other addresses than the reader meant."""
    (tmp_path / "entries").write_bytes(bytes(8 * 64))
    picture = tmp_path / "none.png"
    said = run("map", tmp_path / "entries", "--raw", "--start", "7f0000000000", "-o", picture)
    assert b"nothing to draw: none of its pages was ever touched" in refused(said, 1)
    assert not picture.exists()
