"""The laboratory itself: does it make what it says, by the kernel's own account?"""

import contextlib
import ctypes
import mmap
import os
import struct

import pytest

import backed
import hugetlb
import kinds
import linux
import memory
import oracle
import oracle_files
import runas
import swap
from compare import while_still
from linux import PAGE
from needs import Missing, need
from victim import Victim

PAGES = 24

#: What smaps counts elsewhere, or not at all.
UNCOUNTED = {"gap", "zero", "huge_zero", *kinds.HUGETLB}


def states(span):
    """The entries of memory of this process, taken apart."""
    return [oracle.decode(word) for word in oracle.words(span.start, span.end)]


def test_decode_knows_the_words_of_the_patch_author():
    swapped = oracle.decode(int.from_bytes(bytes.fromhex("80 13 01 00 00 00 00 40"), "little"))
    assert swapped == oracle.Entry(0, 0x89C, 0, False, True, False, False, False, False, False)
    present = oracle.decode(int.from_bytes(bytes.fromhex("72 6c 1d 00 00 00 80 a1"), "little"))
    assert present == oracle.Entry(0x1D6C72, 0, 0, True, False, True, False, False, True, True)


def test_many_words_are_the_words():
    with memory.touched(3 * 131072 // 2, step=1000) as made:
        # the kernel moves pages to other frames when it makes room for huge ones
        many, words = while_still(
            lambda: oracle.words(made.start, made.end),
            lambda: oracle.many_words(made.start, made.end),
        )
        assert struct.unpack(f"={made.pages}Q", many) == tuple(words)


@pytest.mark.parametrize("kind", sorted(set(kinds.ALL) - {"gap"}))
def test_every_kind_is_one_mapping_that_its_makers_gaps_keep_apart(kind):
    with kinds.ALL[kind](PAGES) as made:
        assert (made.start, made.end) in oracle.smaps()
    assert not any(
        made.start <= line.start < made.end and "r" in line.permissions for line in oracle.maps()
    )


@pytest.mark.parametrize("kind", sorted(set(kinds.ALL) - UNCOUNTED))
def test_entries_add_up_to_smaps(kind):
    with kinds.ALL[kind](PAGES) as made:
        fields = oracle.smaps()[made.start, made.end]
        entries = states(made)
    assert sum(entry.present for entry in entries) * PAGE == fields["Rss"]
    assert sum(entry.present and not entry.file for entry in entries) * PAGE == fields["Anonymous"]


@pytest.mark.root
def test_zero_pages_share_one_frame_that_nobody_counts(zero_pfn):
    with memory.zero(PAGES) as made:
        assert {entry.pfn for entry in states(made)} == {zero_pfn}
        assert oracle.smaps()[made.start, made.end]["Rss"] == 0


def test_gap_has_two_halves():
    with memory.gap(PAGES) as made:
        lines = [line for line in oracle.maps() if made.start <= line.start < made.end]
        assert [line.end - line.start for line in lines] == [PAGES // 3 * PAGE] * 2
        assert [entry.present for entry in states(made)] == [True] * 8 + [False] * 8 + [True] * 8


@pytest.mark.parametrize("kind", ["write_protected", "poisoned"])
def test_markers_look_like_swap_and_are_not(kind):
    with kinds.ALL[kind](PAGES) as made:
        entries = states(made)
        assert sum(entry.swapped for entry in entries) == PAGES // 2
        assert oracle.smaps()[made.start, made.end]["Swap"] == 0
        words = oracle.words(made.start, made.end)
    if os.geteuid() == 0:
        assert not any(oracle.meaning(word).swapped for word in words)


@pytest.mark.parametrize("kind", ["touched", "sparse", "protected", "huge", "memfd_private"])
def test_private_swap_shows_in_entries_and_smaps(swap_area, kind):
    with kinds.ALL[kind](PAGES) as made:
        swap.pageout(made.start, made.end)
        swapped = sum(entry.swapped for entry in states(made))
        fd_pages = range(made.pages) if made.fd >= 0 else []
        in_file = sum(oracle_files.swapped_in_file(made.fd, page) for page in fd_pages[1::2])
        assert swapped
        assert (swapped + in_file) * PAGE == oracle.smaps()[made.start, made.end]["Swap"]


@pytest.mark.root
@pytest.mark.parametrize("kind", sorted(kinds.IN_FILE - {"overlay"}))
def test_shared_swap_shows_in_the_file_and_smaps_only(swap_area, kind):
    with kinds.ALL[kind](PAGES) as made:
        swap.pageout(made.start, made.end)
        assert not any(entry.swapped or entry.present for entry in states(made))
        assert oracle.smaps()[made.start, made.end]["Swap"] == PAGES * PAGE
        fd = oracle_files.open_mapping(made.start, made.end)
        pages = [oracle_files.file_page(fd, page) for page in range(PAGES)]
        os.close(fd)
    assert all((page.cached, page.evicted, page.data) == (False, True, True) for page in pages)


def test_file_page_tells_a_fallocated_page_from_a_hole():
    with backed.memfd(4) as made:
        os.ftruncate(made.fd, 0)
        os.ftruncate(made.fd, 4 * PAGE)
        os.posix_fallocate(made.fd, 0, PAGE)
        assert oracle_files.file_page(made.fd, 0)[:3] == (True, False, False)
        assert oracle_files.file_page(made.fd, 1) == (False, False, False, False)


def test_offset_shows_the_later_pages():
    with backed.memfd(4, offset=3) as made:
        assert os.fstat(made.fd).st_size == 7 * PAGE
        cached = [oracle_files.file_page(made.fd, page).cached for page in range(7)]
        assert cached == [False] * 3 + [True] * 4


@pytest.mark.root
def test_swap_comes_and_goes(swap_area):
    assert swap_area in {area.path for area in swap.areas()}
    with memory.touched(PAGES) as made:
        swap.pageout(made.start, made.end)
        assert sum(area.used for area in swap.areas()) >= PAGES * PAGE


@pytest.mark.root
def test_swap_of_a_crashed_run_is_taken_away():
    never_left = []

    def crash():
        never_left.append(swap.file_swap(1 << 20, priority=1))
        return never_left[0].__enter__()

    path = runas.in_child(crash)
    assert path in {area.path for area in swap.areas()}
    swap.clean_up()
    assert path not in {area.path for area in swap.areas()}
    assert not os.path.exists(path)


@pytest.mark.root
def test_what_a_stranger_left_where_swap_is_made_is_left_alone():
    """Not even opened, if it is a pipe, which would wait, or a link, which leads elsewhere."""
    directory = backed.disk_directory()
    names = [os.path.join(directory, f"fastpagemap-swap-{os.getpid()}-{n}") for n in range(3)]

    def leave():
        os.mkfifo(names[0])
        os.symlink("/dev/zero", names[1])
        with open(names[2], "wb") as file:
            file.write(bytes(1024) + b"fpm-test-4194304\0" + bytes(4096))

    runas.as_nobody(leave)
    try:
        swap.clean_up()
        assert all(map(os.path.lexists, names))
    finally:
        for name in names:
            os.unlink(name)


def test_pageout_says_what_stayed(any_swap):
    with memory.zero(4) as made, pytest.raises(RuntimeError, match="4 of 4 pages"):
        swap.pageout(made.start, made.end, patience=0)


def test_victim_makes_touches_and_swaps(any_swap):
    with Victim() as victim:
        span = victim.make("untouched", PAGES)
        span.do("write", 0, 8)
        words = oracle.words(span.start, span.end, victim.pid)
        assert [oracle.decode(word).present for word in words] == [True] * 8 + [False] * (PAGES - 8)
        victim.pageout(span)
        assert oracle.smaps(victim.pid)[span.start, span.end]["Swap"] == 8 * PAGE


@pytest.mark.root
def test_pageout_of_another_process(any_swap):
    with Victim() as victim:
        span = victim.make("touched", PAGES)
        swap.pageout(span.start, span.end, victim.pid)
        assert oracle.smaps(victim.pid)[span.start, span.end]["Swap"] == PAGES * PAGE


def test_victim_forks_execs_and_exits():
    with Victim() as victim:
        span = victim.make("touched", PAGES)
        child = victim.fork()
        assert (span.start, span.end) in oracle.smaps(child)
        victim.exec()
        assert (span.start, span.end) not in oracle.smaps(victim.pid)
        victim.make("touched", PAGES)
        victim.exit()
        assert linux.stat(victim.pid)[0] == "Z"
    assert not os.path.exists(f"/proc/{victim.pid}")


@pytest.mark.root
def test_victim_of_another_user():
    with Victim(uid=runas.NOBODY) as victim:
        span = victim.make("touched", PAGES)
        assert os.stat(f"/proc/{victim.pid}/maps").st_uid == runas.NOBODY
        # The reader of the entries decides what is seen, not their owner.
        words = runas.as_nobody(oracle.words, span.start, span.end, victim.pid)
        assert {oracle.decode(word).pfn for word in words} == {0}


def test_as_nobody_brings_results_and_exceptions_back():
    assert runas.as_nobody(os.geteuid) == (runas.NOBODY if os.geteuid() == 0 else os.geteuid())
    with pytest.raises(ProcessLookupError):
        runas.as_nobody(os.kill, 2**22 + 1, 0)
    with pytest.raises(Missing, match="the moon"):
        runas.as_nobody(need, False, "the moon")
    with pytest.raises(RuntimeError, match="died"):
        runas.as_nobody(os._exit, 3)


@pytest.mark.root
def test_one_capability_opens_map_files_and_none_does_not():
    def can_open():
        with backed.memfd(2) as made:
            try:
                os.close(oracle_files.open_mapping(made.start, made.end))
            except PermissionError:
                return False
            return True

    assert not runas.as_nobody(can_open)
    assert runas.run_as(can_open, capabilities=[runas.CAP_CHECKPOINT_RESTORE])


@pytest.mark.root
def test_nobody_sees_no_frames():
    def frames():
        with memory.touched(4) as made:
            return {oracle.decode(word).pfn for word in oracle.words(made.start, made.end)}

    assert runas.as_nobody(frames) == {0}


@pytest.mark.root
def test_hugetlb_pool_is_put_back():
    path = "/proc/sys/vm/nr_hugepages"
    before = linux.read_int(path)
    hugetlb.hugetlb(1).close()
    assert linux.read_int(path) == before


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (
            b"7f00-8f00 r--p 00000000 fe:00 12                         /a b (deleted)",
            b"/a b (deleted)",
        ),
        (b"7f00-8f00 r--p 00000000 00:00 0 ", b""),
        (
            b"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]",
            b"[vsyscall]",
        ),
        (b"7f00-8f00 rwxs 0000f000 00:01 5  /\xff\\012", b"/\xff\\012"),
    ],
)
def test_maps_line(line, path):
    assert oracle.maps_line(line).path == path
    assert oracle.maps_line(b"Rss:    4 kB") is None


def test_nothing_lands_in_a_hole():
    """What is mapped next would be unmapped with the memory, or be read and written by a test."""
    with contextlib.ExitStack() as stack:
        holes = stack.enter_context(memory.untouched(1000)).unmap(100, 900)
        for _ in range(200):
            room = stack.enter_context(mmap.mmap(-1, 16 * PAGE))
            with_address = ctypes.c_char.from_buffer(room)
            address = ctypes.addressof(with_address)
            del with_address
            assert not holes.start <= address < holes.end
