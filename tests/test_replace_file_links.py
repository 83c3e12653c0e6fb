"""Links at the place of a file that the package writes: one's own are followed."""

import contextlib
import errno
import mmap
import os
import struct
import time

import pytest

import fastpagemap as fpm
import linux
import runas
from written_files import mode, write


@pytest.mark.parametrize("there", [True, False], ids=["to a file", "to nothing yet"])
def test_a_link_of_one_s_own_stays_and_is_followed(tmp_path, there):
    (tmp_path / "deep").mkdir()
    real = tmp_path / "deep" / "real"
    if there:
        real.write_bytes(b"old")
        real.chmod(0o640)
    (tmp_path / "first").symlink_to("deep/../second")
    (tmp_path / "second").symlink_to(real)
    write(tmp_path / "first")
    assert real.read_bytes() == b"new"
    assert os.readlink(tmp_path / "first") == "deep/../second"
    assert os.readlink(tmp_path / "second") == str(real)
    assert not there or mode(real) == 0o640
    assert os.listdir(tmp_path / "deep") == ["real"]


@pytest.mark.root
def test_a_link_of_a_stranger_is_not_followed(public, theirs, tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"of root")
    for directory in (public, theirs):
        for leads_to in (target, tmp_path / "new", "/dev/null"):
            path = f"{directory}/link"
            runas.as_nobody(os.symlink, leads_to, path)
            with pytest.raises(PermissionError, match="name the file it leads to"):
                write(path)
            assert os.path.islink(path)
            os.unlink(path)
    assert target.read_bytes() == b"of root"
    assert os.listdir(tmp_path) == ["target"]


@pytest.mark.root
@pytest.mark.parametrize("directory", [0o777, 0o1777, 0o2775])
def test_a_link_of_root_s_where_others_may_write(public, tmp_path, directory):
    """Whoever owns a directory that it was in may have moved it."""
    os.mkdir(f"{public}/open")
    os.chmod(f"{public}/open", directory)
    os.symlink(tmp_path / "new", f"{public}/open/moved")
    with pytest.raises(PermissionError, match="name the file it leads to"):
        write(f"{public}/open/moved")
    assert os.listdir(tmp_path) == []


@pytest.mark.root
def test_a_link_of_root_s_in_a_directory_of_a_stranger_s(theirs, tmp_path):
    os.symlink(tmp_path / "new", f"{theirs}/moved")
    with pytest.raises(PermissionError):
        write(f"{theirs}/moved")
    assert os.listdir(tmp_path) == []


def test_a_link_with_two_names(tmp_path):
    """Anybody may have given it the second one, where fs.protected_hardlinks is off."""
    os.symlink(tmp_path / "new", tmp_path / "one")
    os.link(tmp_path / "one", tmp_path / "another", follow_symlinks=False)
    with pytest.raises(PermissionError):
        write(tmp_path / "another")
    assert not os.path.lexists(tmp_path / "new")


@pytest.mark.root
@pytest.mark.parametrize("way", ["save", "replace_file"])
def test_a_link_that_comes_and_goes(public, tmp_path, way):
    """Whatever is looked at before it is opened may be another thing when it is opened."""
    path = f"{public}/out"
    with fpm.PageMap() as pagemap:
        snapshot = pagemap.snapshot()
    turns = mmap.mmap(-1, mmap.PAGESIZE)  # how often the stranger has put his link there
    pid = os.fork()
    if pid == 0:
        try:
            linux.die_with_parent()
            runas.become(runas.NOBODY)
            while True:
                with contextlib.suppress(OSError):
                    os.symlink(tmp_path / "target", path)
                    turns[:8] = struct.pack("Q", struct.unpack("Q", turns[:8])[0] + 1)
                with contextlib.suppress(OSError):
                    os.unlink(path)
        finally:
            os._exit(0)

    def met():
        return struct.unpack("Q", turns[:8])[0] > 1

    try:
        began = time.monotonic()
        # on a busy machine it takes the stranger some time to begin
        while (passed := time.monotonic() - began) < 3 or (not met() and passed < 60):
            # refused or done: either is right, and which of them is chance
            with contextlib.suppress(PermissionError):
                write(path) if way == "replace_file" else snapshot.save(path)
            with contextlib.suppress(OSError):
                os.unlink(path)
            assert os.listdir(tmp_path) == []
        assert met()
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_links_that_lead_nowhere(tmp_path):
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "gone").symlink_to("nothing/here")
    (tmp_path / "here").symlink_to(".")
    for name, number in (
        ("round", errno.ELOOP),
        ("gone", errno.ENOENT),
        ("here", errno.EISDIR),
        (".", errno.EISDIR),
        ("here/", errno.EISDIR),
        ("nothing/here", errno.ENOENT),
    ):
        with pytest.raises(OSError, match="cannot write") as caught:
            write(f"{tmp_path}/{name}")
        assert caught.value.errno == number
    assert sorted(os.listdir(tmp_path)) == ["gone", "here", "round"]
