"""Files that the package writes: whole or not at all, and of no use to a stranger.

A stranger is a user without privilege. Root writes into directories to which he can write, too.
"""

import contextlib
import errno
import mmap
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import time

import pytest

import commandline
import fastpagemap as fpm
import linux
import runas
from fastpagemap.snapshot.replace_file import replace_file
from needs import Absent, need
from victim import Victim

ME = os.geteuid()


def mode(path):
    return stat.S_IMODE(os.stat(path, follow_symlinks=False).st_mode)


def write(path, owner=ME, content=b"new"):
    with replace_file(os.fspath(path), owner) as file:
        file.write(content)


@contextlib.contextmanager
def umask(mask):
    old = os.umask(mask)
    try:
        yield
    finally:
        os.umask(old)


@pytest.fixture
def public():
    """A directory like /tmp, outside of pytest's, which nobody else may enter."""
    path = tempfile.mkdtemp(prefix="fastpagemap-test-")
    os.chmod(path, 0o1777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def theirs(public):
    """A directory of the stranger's own."""
    path = os.path.join(public, "theirs")
    os.mkdir(path)
    os.chown(path, runas.NOBODY, runas.NOBODY)
    return path


@pytest.fixture
def named(monkeypatch):
    """A file system that makes no files without a name."""
    real = os.open

    def refuse(path, flags, *arguments, **options):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), path)
        return real(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)


@pytest.fixture(params=["unnamed", "named"])
def any_file_system(request):
    """One that makes files without a name, and one that does not."""
    if request.param == "named":
        request.getfixturevalue("named")
    return request.param


def command(*arguments):
    said = commandline.run(*arguments, stdin=subprocess.DEVNULL)
    assert (said.returncode, said.stderr) == (0, b""), said.stderr


def save(pid, path):
    with fpm.PageMap(pid) as pagemap:
        pagemap.snapshot().save(path)


#: Every way to have a file written, by the ending that it wants.
WAYS = {
    "save": ("fpm", save),
    "dump": ("fpm", lambda pid, path: command("dump", pid, "-o", path)),
    "parquet": ("pq", lambda pid, path: command("report", pid, "--parquet", path)),
    "map": ("png", lambda pid, path: command("map", pid, "-o", path)),
}


# ---- what a stranger put there first -----------------------------------------------------------


def leave(path, mode):
    """Make a file that anybody may write, with bits of a program that runs as its owner."""
    with open(path, "wb"):
        pass
    os.chmod(path, mode)


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


# ---- whose memory it shows ---------------------------------------------------------------------


@pytest.mark.root
@pytest.mark.parametrize("way", WAYS)
def test_another_user_s_addresses_are_for_nobody_else(public, way):
    ending, by_way = WAYS[way]
    with Victim(uid=runas.NOBODY) as victim, umask(0o022):
        for path in (f"{public}/new.{ending}", f"{public}/old.{ending}"):
            if "old" in path:
                leave(path, 0o644)
            by_way(victim.pid, path)
            assert mode(path) == 0o600


@pytest.mark.root
@pytest.mark.parametrize("group", [(), ("--group", "path")], ids=["by process", "by path"])
def test_a_report_of_all_is_for_nobody_else(tmp_path, group):
    made = tmp_path / "all.pq"
    with Victim(uid=runas.NOBODY), umask(0o022):
        # processes that cannot be read are named on stderr
        commandline.run("report", "--all", *group, "--parquet", made, check=True)
    assert mode(made) == 0o600


@pytest.mark.root
def test_what_is_made_of_such_a_file_is_for_nobody_else_either(tmp_path):
    with Victim(uid=runas.NOBODY) as victim, umask(0o022):
        save(victim.pid, tmp_path / "a.fpm")
        assert fpm.Snapshot.load(tmp_path / "a.fpm").uid == runas.NOBODY
        command("map", tmp_path / "a.fpm", "-o", tmp_path / "a.png")
        command("report", tmp_path / "a.fpm", "--parquet", tmp_path / "a.pq")
        command("dump", tmp_path / "a.fpm", "-o", tmp_path / "b.fpm")
        assert {name: mode(tmp_path / name) for name in os.listdir(tmp_path)} == dict.fromkeys(
            ["a.fpm", "a.png", "a.pq", "b.fpm"], 0o600
        )


@pytest.mark.root
def test_a_program_that_runs_as_root_for_a_stranger(public):
    """Set-uid: root in all but who started it."""

    def pretend():
        os.setresuid(runas.NOBODY, 0, 0)
        save(None, f"{public}/a.fpm")
        return fpm.PageMap().uid

    assert runas.in_child(pretend) == runas.NOBODY
    assert mode(f"{public}/a.fpm") == 0o600


def test_entries_are_of_nobody_knows_whom(tmp_path):
    with umask(0o022):
        fpm.Snapshot.from_entries([1 << 63]).save(tmp_path / "a.fpm")
    assert mode(tmp_path / "a.fpm") == 0o600


def test_the_screen_of_another_user_s_process(tmp_path, monkeypatch):
    saving = pytest.importorskip("fastpagemap.cli.watch.saving")
    monkeypatch.chdir(tmp_path)
    with umask(0o022):
        made = [saving.save("picture", "screen", owner) for owner in (ME, ME + 1, None)]
    assert made == ["screen-1.svg", "screen-2.svg", "screen-3.svg"]
    assert [mode(name) for name in made] == [0o644, 0o600, 0o600]


# ---- links -------------------------------------------------------------------------------------


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
    try:
        end = time.monotonic() + 3
        while time.monotonic() < end:
            # refused or done: either is right, and which of them is chance
            with contextlib.suppress(PermissionError):
                write(path) if way == "replace_file" else snapshot.save(path)
            with contextlib.suppress(OSError):
                os.unlink(path)
            assert os.listdir(tmp_path) == []
        assert struct.unpack("Q", turns[:8])[0] > 1
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
