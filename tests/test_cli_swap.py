"""fastpagemap report --swap: where the machine's swap is, each place once (root)."""

import contextlib
import io
import json
import mmap
import os
import re

import pytest

import backed
import fastpagemap as fpm
import linux
import runas
import swap
from commandline import run
from fastpagemap.report import machine_swap as report
from fastpagemap.report.report import About
from fastpagemap.report.text import human
from forks import forked
from locked import Locked
from memory import PRIVATE, Memory
from needs import Absent, need
from victim import Victim

pytest.importorskip("click")

PAGE = fpm.PAGE_SIZE
# Some process of the machine may not answer: it is given up soon.
SOON = ("--timeout", "2")
SOME_MIB = 16 << 20


def asked():
    said = run("report", "--swap", "--json", *SOON)
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


def row_of(found, pid):
    (row,) = [row for row in found["rows"] if row["pid"] == pid]
    return row


def places(pid):
    """The places of all swapped private pages of a process: the slow twin."""
    found = set()
    with fpm.PageMap(pid) as pagemap:
        for mapping in pagemap.mappings():
            if mapping.start < 1 << 63:
                pages = pagemap.read(mapping.start, mapping.end)
                swapped = pages.swapped & (pages.swap_type < 24)
                found |= set(
                    zip(
                        pages.swap_type[swapped].tolist(),
                        pages.swap_offset[swapped].tolist(),
                        strict=True,
                    )
                )
    return found


def swapped_out(memory):
    swap.pageout(memory.start, memory.end)
    with fpm.PageMap() as pagemap:
        assert pagemap.swapped(memory.start, memory.end).all()
    return memory


@pytest.mark.root
def test_what_a_fork_shares_counts_once(any_swap):
    memory = swapped_out(Memory(512, PRIVATE).write())
    with forked() as pid:
        found = asked()
        mine, theirs = places(None), places(pid)
    memory.close()
    one, other = row_of(found, os.getpid()), row_of(found, pid)
    assert len(mine & theirs) >= 512
    assert one["private"] == len(mine) * PAGE
    assert other["private"] == len(theirs) * PAGE
    assert abs(one["pss"] + other["pss"] - len(mine | theirs) * PAGE) <= 2
    assert one["uss"] == len(mine - theirs) * PAGE
    sums = sum(row["private"] + row["shared"] for row in found["rows"])
    assert len(mine | theirs) * PAGE <= found["in_processes"] <= sums - len(mine & theirs) * PAGE


@pytest.mark.root
def test_a_few_pages_are_found(any_swap):
    """The kernel's own count of them (VmSwap) may still be 0, before Linux 6.16."""
    with Victim() as victim:
        victim.pageout(victim.make("touched", 8))
        found = asked()
        assert len(places(victim.pid)) == 8
    assert row_of(found, victim.pid)["private"] == 8 * PAGE


@pytest.mark.root
def test_shared_memory_counts_once_and_what_nobody_maps_is_named(any_swap):
    need(fpm.capabilities().cachestat, "cachestat", Absent)
    whole = swapped_out(backed.memfd(64))
    half = Memory(32, mmap.MAP_SHARED, fd=os.dup(whole.fd))
    held = os.dup(whole.fd)
    whole.close()
    with forked() as pid:
        found = asked()
    half.close()
    after = asked()
    os.close(held)
    for each in (os.getpid(), pid):
        assert row_of(found, each)["shared"] == 32 * PAGE
    assert sum(row_of(found, each)["pss"] for each in (os.getpid(), pid)) >= 32 * PAGE
    (rest,) = [file for file in found["unmapped"] if "fastpagemap (deleted)" in file["path"]]
    assert rest["swapped"] == 32 * PAGE
    assert rest["pid"] in (os.getpid(), pid)
    (rest,) = [file for file in after["unmapped"] if "fastpagemap (deleted)" in file["path"]]
    assert (rest["swapped"], rest["pid"]) == (64 * PAGE, os.getpid())


@pytest.mark.root
def test_a_file_of_a_tmpfs_that_nobody_maps_is_named(any_swap):
    need(fpm.capabilities().cachestat, "cachestat", Absent)
    with backed.mounted("tmpfs") as directory:
        os.mkdir(f"{directory}/deep")
        path = f"{directory}/deep/file"
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        os.ftruncate(fd, 48 * PAGE)
        swapped_out(Memory(48, mmap.MAP_SHARED, fd=fd).write()).close()
        found = asked()
    assert {"path": path, "swapped": 48 * PAGE, "pid": 0} in found["unmapped"]
    assert found["in_unmapped"] >= 48 * PAGE


@pytest.mark.root
def test_a_file_that_is_locked_is_named_and_the_others_are_counted(any_swap):
    need(fpm.capabilities().cachestat, "cachestat", Absent)
    with contextlib.ExitStack() as made, Locked() as process, Locked() as other:
        one, locked, two, unswapped = (made.enter_context(backed.posix(24)) for _ in range(4))
        paths = [os.readlink(f"/proc/self/fd/{each.fd}") for each in (one, locked, two, unswapped)]
        for memory in (one, locked, two):
            swapped_out(memory)
            linux.call("munmap", memory.start, memory.end - memory.start)
        process.lock_file(paths[1])
        other.lock_file(paths[3])
        found = asked()
    sizes = {file["path"]: file["swapped"] for file in found["unmapped"]}
    assert [sizes.get(path) for path in paths] == [24 * PAGE, None, 24 * PAGE, None]
    (note,) = [note for note in found["notes"] if "/dev/shm" in note]
    # The write has brought a page back.
    assert re.match(rf"{paths[1]}, of which \S+Ki are in swap, was not read: no answer", note)


@pytest.mark.root
def test_a_segment_that_nobody_has_attached_is_named(any_swap):
    need(os.path.exists("/proc/sysvipc/shm"), "/proc/sysvipc", Absent)
    number = linux.call("shmget", 0, 24 * PAGE, 0o1600)
    try:
        memory = Memory(24)
        linux.call("shmat", number, memory.start, 0o40000)
        swapped_out(memory.write()).close()
        found = asked()
    finally:
        linux.call("shmctl", number, 0, linux.ctypes.c_void_p())
    assert {"path": f"SysV segment {number}", "swapped": 24 * PAGE, "pid": 0} in found["unmapped"]


@pytest.mark.root
def test_little_is_left_unexplained(any_swap):
    memory = swapped_out(Memory(SOME_MIB * 2 // PAGE, PRIVATE).write())
    found = asked()
    said = run("report", "--swap", *SOON)
    memory.close()
    sums = found["in_processes"] + found["in_unmapped"]
    left = min(found["used"], found["used_before"]) - sums
    assert found["unexplained"] == max(0, left)
    # The machine goes on meanwhile, and what is cached keeps its place.
    assert abs(left) <= found["cached"] + SOME_MIB
    text = said.stdout.decode()
    assert str(os.getpid()) in text
    assert "used (SwapTotal - SwapFree of /proc/meminfo)" in text
    assert "unexplained" in text


@pytest.mark.root
def test_it_is_said_of_what_and_when():
    found, said = asked(), run("report", "--swap", *SOON)
    first = rb"# swap of the machine, 20\d\d-\S+ \S+, Linux " + found["kernel"].encode()
    assert re.fullmatch(first, said.stdout.splitlines()[0])
    assert found["kernel"] == os.uname().release


@pytest.mark.parametrize(
    ("before", "after", "left", "more"), [(9, 9, 4, 0), (7, 9, 2, 0), (9, 7, 2, 0), (4, 9, 0, 1)]
)
def test_swap_that_changes_meanwhile(before, after, left, more):
    """Nothing is unexplained that was not in swap all the while, and no sum is below 0."""
    found = report.MachineSwap([], [], 3 << 20, 2 << 20, before << 20, after << 20, 0)
    said = json.loads("".join(report.json_lines(found, [], About.now(None, ""))))
    assert (said["used_before"], said["used"]) == (before << 20, after << 20)
    assert said["unexplained"] == left << 20
    lines = [line.split(maxsplit=1) for line in report.plain(found)]
    sizes = {rest[0]: size for size, *rest in filter(None, lines)}
    assert sizes["unexplained"] == human(left << 20)
    beyond = sizes.get("more was found: swap changed meanwhile")
    assert beyond == (human(more << 20) if more else None)
    assert ("used when the reading began" in sizes) == (before != after)


def test_only_the_whole_machine_is_asked():
    for arguments in (["--swap", "1"], ["--swap", "--all"], ["--swap", "--csv"]):
        said = run("report", *arguments)
        assert said.returncode == 2
        assert b"--swap is about the whole machine" in said.stderr


@pytest.mark.root
def test_without_privilege_it_fails_in_one_line():
    def failed():
        from fastpagemap.cli import main

        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            code = main(["report", "--swap"])
        return code, said.getvalue()

    code, said = runas.as_nobody(failed)
    assert code == 1
    assert said.count("\n") == 1
    assert "CAP_SYS_ADMIN" in said
