"""The modes of files that the package writes: what a stranger put there first gives none."""

import os
import stat
import struct

import pytest

import runas
from fastpagemap.snapshot.replace_file import replace_file
from needs import Absent, need
from written_files import ME, WAYS, leave, mode, umask, write


@pytest.mark.root
@pytest.mark.parametrize("way", WAYS)
def test_a_stranger_s_mode_is_not_taken_over(public, way):
    ending, by_way = WAYS[way]
    path = f"{public}/out.{ending}"
    runas.as_nobody(leave, path, 0o6777)
    with umask(0o022):
        by_way(os.getpid(), path)
    assert os.stat(path).st_uid == 0
    assert mode(path) == 0o644
    assert os.listdir(public) == [f"out.{ending}"]


@pytest.mark.root
@pytest.mark.parametrize("there", [0o4755, 0o2777, 0o1666, 0o666, 0o600, 0])
def test_whatever_mode_a_stranger_s_file_has(public, there):
    path = f"{public}/out"
    runas.as_nobody(leave, path, there)
    with umask(0o022):
        write(path)
    assert mode(path) == 0o644


@pytest.mark.usefixtures("any_file_system")
@pytest.mark.parametrize(
    ("there", "then"), [(0o6777, 0o775), (0o1666, 0o664), (0o640, 0o640), (0o400, 0o400)]
)
def test_a_mode_of_one_s_own_is_kept_but_for_what_harms(tmp_path, there, then):
    leave(tmp_path / "out", there)
    with umask(0o077):
        write(tmp_path / "out")
    assert mode(tmp_path / "out") == then


@pytest.mark.usefixtures("any_file_system")
@pytest.mark.parametrize(("mask", "then"), [(0, 0o664), (0o022, 0o644), (0o077, 0o600)])
def test_a_new_file_has_what_the_umask_leaves(tmp_path, mask, then, monkeypatch):
    with umask(mask):
        # whoever asks for it changes it, for all threads of the process
        monkeypatch.delattr(os, "umask")
        write(tmp_path / "out")
        monkeypatch.undo()
    assert mode(tmp_path / "out") == then


@pytest.mark.usefixtures("any_file_system")
@pytest.mark.root
def test_a_group_keeps_its_rights_and_no_other_gets_them(public):
    path = f"{public}/out"
    for group, then in ((4, 0o660), (0, 0o660)):
        leave(path, 0o660)
        os.chown(path, -1, group)
        write(path)
        assert (os.stat(path).st_gid, mode(path)) == (group, then)

    def as_member_of_no_group():
        leave(f"{public}/mine", 0o664)
        return os.stat(f"{public}/mine").st_gid

    runas.as_nobody(as_member_of_no_group)
    os.chown(f"{public}/mine", -1, 4)
    runas.run_as(write, f"{public}/mine", runas.NOBODY)
    assert os.stat(f"{public}/mine").st_gid == runas.NOBODY
    assert mode(f"{public}/mine") == 0o604


@pytest.mark.usefixtures("any_file_system")
@pytest.mark.root
def test_a_file_that_a_stranger_linked_there_gives_no_mode(public):
    """He may, where he may write to it, as one of its group."""
    leave(f"{public}/of_root", 0o664)
    os.link(f"{public}/of_root", f"{public}/out")
    with umask(0o022):
        write(f"{public}/out")
    assert mode(f"{public}/out") == 0o644


def grant(directory, uid):
    """Give a user rights to all that will be made in a directory (acl(5))."""
    entries = [(1, 7, -1), (2, 6, uid), (4, 7, -1), (0x10, 7, -1), (0x20, 7, -1)]
    words = b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(directory, "system.posix_acl_default", struct.pack("<I", 2) + words)


@pytest.mark.usefixtures("any_file_system")
@pytest.mark.root
@pytest.mark.parametrize("there", [None, 0o640], ids=["new", "there before"])
def test_a_directory_that_grants_rights_to_all_that_is_made_in_it(theirs, there):
    path = f"{theirs}/out"
    try:
        runas.as_nobody(grant, theirs, runas.NOBODY)
    except OSError as error:
        need(False, f"access control lists in {theirs}: {error}", Absent)
    if there:
        leave(path, there)
        os.removexattr(path, "system.posix_acl_access")
        os.chmod(path, there)
    with umask(0o077), replace_file(path, ME) as file:
        file.write(b"new")
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600
    assert mode(path) == (there or 0o600)
    assert "system.posix_acl_access" not in os.listxattr(path)


@pytest.mark.root
@pytest.mark.usefixtures("named")
def test_the_temporary_file_exchanged_for_a_link(theirs):
    """Whose directory it is may exchange anything in it, at any moment."""
    path, secret = f"{theirs}/out", os.path.join(os.path.dirname(theirs), "secret")
    with open(secret, "w") as file:
        file.write("of root")
    os.chmod(secret, 0o600)

    def exchange():
        (temporary,) = [name for name in os.listdir(theirs) if name != "out"]
        os.unlink(f"{theirs}/{temporary}")
        os.symlink(secret, f"{theirs}/{temporary}")

    runas.as_nobody(leave, path, 0o6777)
    with replace_file(path, ME) as file:
        file.write(b"new")
        runas.as_nobody(exchange)
    assert mode(secret) == 0o600
    with open(secret) as file:
        assert file.read() == "of root"
