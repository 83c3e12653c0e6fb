"""Where recordings are written: nobody leads them elsewhere, and nobody else may read them."""

import os
import shutil
import signal

import pytest

import cgroups
import runas
from commandline import run
from recordings import files_in, mapped, record, rows_in
from sharer import Sharer

pytest.importorskip("pyarrow")


def parts(directory):
    """The host's directory, and that of today, below the one that was named."""
    (path,) = files_in(directory)
    day = os.path.dirname(path)
    return os.path.dirname(day), day


@pytest.mark.root
@pytest.mark.parametrize("part", ["itself", "host", "date"])
def test_a_link_that_a_stranger_put_there_is_not_followed(victim, public, tmp_path, part):
    recorded = f"{public}/recorded"
    record(recorded, [victim.pid])
    host, day = parts(recorded)
    place = {"itself": recorded, "host": host, "date": day}[part]
    shutil.rmtree(place)
    os.chmod(os.path.dirname(place), 0o1777)
    runas.as_nobody(os.symlink, tmp_path, place)
    said = run("record", victim.pid, "-o", recorded, "--host", "h", "--count", 1)
    assert (said.returncode, said.stderr.count(b"\n")) == (1, 1)
    assert b"another user may have put there" in said.stderr
    assert os.fsencode(place) in said.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.root
def test_a_directory_that_a_stranger_exchanges_meanwhile(victim, public, tmp_path):
    """He owns it, so he may; then no file is written any more, and that is said once."""
    recorded = f"{public}/recorded"
    runas.as_nobody(os.makedirs, f"{recorded}/host=h")

    def exchange():
        os.rename(f"{recorded}/host=h", f"{recorded}/before")
        runas.as_nobody(os.symlink, tmp_path, f"{recorded}/host=h")

    with pytest.raises(PermissionError, match="another user may have put there"):
        record(recorded, [victim.pid], lambda: None, exchange, lambda: None, max_bytes=1)
    assert os.listdir(tmp_path) == []
    assert all(os.stat(path).st_mode & 0o777 == 0o600 for path in files_in(recorded))
    assert files_in(recorded)


def test_links_of_one_s_own_are_followed(victim, tmp_path):
    os.mkdir(tmp_path / "disk", 0o755)
    os.mkdir(tmp_path / "recorded", 0o755)
    (tmp_path / "recorded" / "host=h").symlink_to("../disk/large")
    record(tmp_path / "recorded", [victim.pid])
    assert len(files_in(tmp_path / "disk" / "large")) == 1


@pytest.mark.parametrize("name", ["a/b/c", "a/b/", ".", "./a/../a"])
def test_directories_are_made(victim, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    os.mkdir("a", 0o755)
    record(name, [victim.pid])
    assert len(files_in(name)) == 1


def test_a_directory_that_is_removed_meanwhile_is_made_again(victim, tmp_path):
    recorded = tmp_path / "recorded"
    steps = [lambda: None, lambda: shutil.rmtree(recorded), lambda: None]
    recorder = record(recorded, [victim.pid], *steps, max_bytes=1)
    assert recorder.files.files > len(files_in(recorded)) > 0
    assert recorder.files.lost == 0


@pytest.mark.root
@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("name", [b"\xff caf\xc3\xa9", b"a\r1:memory:b", b"\x1b[2J\t;$(x)"])
def test_a_cgroup_of_any_name(tmp_path, version, name):
    with cgroups.limited(version, 1 << 30) as parent, Sharer({"join": cgroups.join}) as it:
        path = os.path.join(os.fsencode(parent), name)
        os.mkdir(path)
        try:
            it.ask("join", os.fsdecode(path))
            record(tmp_path, [it.pid])
        finally:
            os.kill(it.pid, signal.SIGKILL)
            os.waitid(os.P_PID, it.pid, os.WEXITED | os.WNOWAIT)
            os.rmdir(path)
    (found,) = {row["cgroup"] for row in rows_in(*files_in(tmp_path))}
    shown = name.decode("utf-8", "backslashreplace")
    assert found == f"/{os.path.basename(parent)}/{shown}"


def test_two_recorders_in_one_directory(victim, tmp_path):
    def another():
        record(tmp_path, [victim.pid])

    record(tmp_path, [victim.pid], another)
    found = [rows_in(path) for path in files_in(tmp_path)]
    assert len(found) == 2
    assert mapped(found[0]).keys() == mapped(found[1]).keys()


@pytest.mark.parametrize("option", ["-o", "--host"])
def test_an_empty_text_is_no_name(victim, tmp_path, option):
    """As of a variable of the shell that is not set: the files would have no host."""
    said = run("record", victim.pid, "-o", "r", "--count", 1, option, "", cwd=tmp_path)
    assert (said.returncode, said.stdout, said.stderr.count(b"\n")) == (2, b"", 1)
    assert f"{option}: an empty text".encode() in said.stderr
    assert os.listdir(tmp_path) == []
