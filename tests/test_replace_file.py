"""Files that the package writes: whole or not at all, and of no use to a stranger.

A stranger is a user without privilege. Root writes into directories to which he can write, too.
"""

import errno
import os
import signal
import stat
import subprocess
import sys

import pytest

import fastpagemap as fpm
import runas
from fastpagemap.snapshot.replace_file import replace_file
from needs import Absent, need
from written_files import ME, write

# ---- what is no file ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", [">", ">>"])
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_a_descriptor_is_written_on(tmp_path, how, name):
    """Where it stands, and what the shell writes before and behind it stays."""
    code = (
        "import os, sys; from fastpagemap.snapshot.replace_file import replace_file\n"
        "with replace_file(sys.argv[1], os.geteuid()) as file: file.write(b'new\\n')"
    )
    path = tmp_path / "out"
    path.write_bytes(b"old\n")
    script = f'(echo before; "$0" -c "$1" "$2"; echo behind) {how} "$3"'
    subprocess.run(["sh", "-c", script, sys.executable, code, name, path], check=True)
    old = b"old\n" if how == ">>" else b""
    assert path.read_bytes() == old + b"before\nnew\nbehind\n"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("to", ['> "$1"', '| cat > "$1"'], ids=["a file", "a pipe"])
def test_a_dump_on_standard_output_is_nothing_but_that(tmp_path, to):
    path = tmp_path / "out"
    script = f'"$0" -m fastpagemap dump {os.getpid()} -o /dev/stdout {to}'
    subprocess.run(["bash", "-c", script, sys.executable, path], check=True)
    assert fpm.Snapshot.load(path).pid == os.getpid()


def test_a_number_that_no_descriptor_has():
    for number in (999_999, 10**20):
        with pytest.raises(OSError, match="cannot write"):
            write(f"/proc/self/fd/{number}")


def test_a_pipe_of_the_shell_s(tmp_path):
    path = tmp_path / "out"
    script = f'"$0" -m fastpagemap dump {os.getpid()} -o >(cat > "$1") >/dev/null; wait $!'
    subprocess.run(["bash", "-c", script, sys.executable, path], check=True)
    assert fpm.Snapshot.load(path).pid == os.getpid()


def test_a_pipe_with_a_name(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write(tmp_path / "pipe")
        assert os.read(reader, 10) == b"new"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


@pytest.mark.root
def test_a_pipe_of_a_stranger_s_is_refused(public):
    """He would read what is written, or let the writer wait for ever."""
    runas.as_nobody(os.mkfifo, f"{public}/pipe")
    # so that a writer that does not refuse it has not to wait
    reader = os.open(f"{public}/pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(PermissionError, match="named pipe"):
            write(f"{public}/pipe")
    finally:
        os.close(reader)


def test_a_device(tmp_path):
    write("/dev/null")
    (tmp_path / "link").symlink_to("/dev/null")
    write(tmp_path / "link")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


# ---- all of it, or nothing ---------------------------------------------------------------------


def fail(path, error):
    with replace_file(str(path), ME) as file:
        file.write(b"half")
        raise error


@pytest.mark.usefixtures("any_file_system")
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_what_fails_in_the_middle_leaves_what_was_there(tmp_path, error):
    for there in ([], ["out"]):
        with pytest.raises(error):
            fail(tmp_path / "out", error)
        assert os.listdir(tmp_path) == there
        (tmp_path / "out").write_bytes(b"old")
    assert (tmp_path / "out").read_bytes() == b"old"


def killed_while_writing(path):
    """Be killed in the middle, by the signal that systemd, docker and timeout send."""
    with replace_file(str(path), ME) as file:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("there", [[], ["out"]])
def test_whoever_is_killed_leaves_nothing(tmp_path, there):
    makes_unnamed_files(tmp_path)
    for name in there:
        (tmp_path / name).write_bytes(b"old")
    with pytest.raises(RuntimeError, match="the child died"):
        runas.in_child(killed_while_writing, tmp_path / "out")
    assert os.listdir(tmp_path) == there
    assert all((tmp_path / name).read_bytes() == b"old" for name in there)


def makes_unnamed_files(directory):
    try:
        os.close(os.open(directory, os.O_TMPFILE | os.O_WRONLY))
    except OSError as error:
        need(error.errno != errno.EOPNOTSUPP, "files without a name", Absent)
        raise


@pytest.mark.usefixtures("any_file_system")
def test_a_directory_that_is_moved_meanwhile(tmp_path):
    """It is opened once: what stands at its path later has nothing to do with it."""
    (tmp_path / "a").mkdir()
    with replace_file(str(tmp_path / "a" / "out"), ME) as file:
        (tmp_path / "a").rename(tmp_path / "b")
        (tmp_path / "a").mkdir()
        file.write(b"new")
    assert os.listdir(tmp_path / "a") == []
    assert (tmp_path / "b" / "out").read_bytes() == b"new"


@pytest.mark.usefixtures("any_file_system")
def test_a_name_as_long_as_names_may_be(tmp_path):
    write(tmp_path / ("n" * 255))
    assert os.listdir(tmp_path) == ["n" * 255]


@pytest.mark.usefixtures("any_file_system")
def test_nothing_stays_open(tmp_path):
    before = os.listdir("/proc/self/fd")
    (tmp_path / "link").symlink_to("out")
    write(tmp_path / "link")
    with pytest.raises(OSError, match="cannot write"):
        write(tmp_path / "nothing" / "here")
    assert os.listdir("/proc/self/fd") == before
