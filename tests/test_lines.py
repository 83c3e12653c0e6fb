"""Reading files of /proc a chunk of lines at a time, however long what they say is."""

import contextlib
import os
import signal
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

import backed
import fastpagemap as fpm
import oracle
from fastpagemap._kernel.descriptor import open_file
from fastpagemap._kernel.lines import MAX_LONG_BYTES, Lines, read_all
from fastpagemap.process.mappings import mappings
from fastpagemap.process.process import Process
from fastpagemap.process.smaps import smaps
from linux import PAGE

CHUNK = 1 << 16
LONG = 1 << 15


@contextlib.contextmanager
def file_of(content):
    """An open file, at its beginning."""
    fd = os.memfd_create("text")
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    try:
        yield fd
    finally:
        os.close(fd)


def chunks(content, *budget):
    with file_of(content) as fd:
        return list(Lines(fd, "text", *budget))


sizes = st.sampled_from([0, 1, 100, 4095, 4096, LONG - 1, LONG, LONG + 1, CHUNK, 3 * CHUNK])


@given(st.lists(sizes, max_size=30), st.booleans())
def test_chunks_are_whole_lines_and_all_of_the_file(lengths, ends):
    content = b"\n".join(bytes([65 + n % 26]) * size for n, size in enumerate(lengths))
    content += b"\n" * (ends and bool(lengths))
    found = chunks(content)
    assert b"".join(found) == content
    assert all(chunk.endswith(b"\n") for chunk in found[:-1])
    assert all(found)


@given(st.lists(sizes, max_size=30))
def test_long_lines_have_a_budget(lengths):
    content = b"".join(b"x" * size + b"\n" for size in lengths)
    long = sum(size for size in lengths if size >= LONG)
    assert b"".join(chunks(content, max(long, 2 * CHUNK))) == content
    if long > 2 * CHUNK:
        with pytest.raises(MemoryError, match="text"):
            chunks(content, 2 * CHUNK)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, CHUNK - 1, CHUNK, CHUNK + 1, 1_000_003])
def test_read_all_reads_to_the_end(size):
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    with file_of(content) as fd:
        assert read_all(fd, "text") == content
        for most in (1, 4096, CHUNK, size + 1):
            os.lseek(fd, 0, os.SEEK_SET)
            assert read_all(fd, "text", most) == content[:most]


def test_a_file_that_gives_little_at_a_time():
    reader, writer = os.pipe()
    for piece in (b"a", b"", b"bc" * 1000, b"d"):
        os.write(writer, piece)
    os.close(writer)
    assert b"".join(Lines(reader, "pipe")) == b"a" + b"bc" * 1000 + b"d"
    os.close(reader)


def test_what_could_not_be_read_is_said():
    for read in (read_all, lambda *about: next(Lines(*about))):
        with pytest.raises(OSError, match="nothing"):
            read(-1, "nothing")


@pytest.mark.usefixtures("_nothing_stays_open")
def test_a_file_that_is_not_read_to_its_end_is_closed():
    file = Lines(open_file("/proc/self/maps", os.O_RDONLY), "maps")
    next(file)
    del file


def test_a_command_line_without_an_end():
    """The kernel reads it from memory that the process chose, as much as there is."""
    with open("/proc/self/cmdline", "rb") as file:
        whole = file.read()
    assert Process().read_own("cmdline", 3) == whole[:3]


# Paths. Directories may be nested until one is a MiB long, and no limit on paths applies to it.

DEPTH = 1024


@pytest.fixture(scope="module")
def deep():
    """A file whose path is 256 KiB long, open."""
    with backed.mounted("tmpfs") as base, contextlib.ExitStack() as stack:
        at = os.open(base, os.O_RDONLY)
        for _ in range(DEPTH):
            os.mkdir("d" * 255, dir_fd=at)
            below = os.open("d" * 255, os.O_RDONLY, dir_fd=at)
            os.close(at)
            at = below
        fd = os.open("file", os.O_RDWR | os.O_CREAT, dir_fd=at)
        os.close(at)
        stack.callback(os.close, fd)
        os.ftruncate(fd, PAGE)
        yield fd


@contextlib.contextmanager
def mapped(deep, times):
    with contextlib.ExitStack() as stack:
        for _ in range(times):
            stack.enter_context(backed.mapped(os.dup(deep), 1))
        yield


def few(times):
    return len([line for line in oracle.maps() if len(line.path) > LONG]) == times


@pytest.mark.root
def test_a_few_long_paths_are_told_and_kept_once(deep):
    with mapped(deep, 20):
        assert few(20)
        for found in (fpm.PageMap().mappings(), [m for m, _ in smaps(Process(), "Swap")]):
            paths = [m.path for m in found if len(m.path) > LONG]
            assert len(paths) == 20
            assert len(paths[0]) > 256 * DEPTH
            assert len({id(path) for path in paths}) == 1


@pytest.mark.root
def test_many_long_paths_are_refused_before_they_fill_memory(deep):
    process = Process()
    with mapped(deep, MAX_LONG_BYTES // (256 * DEPTH) + 10):
        for ask in (mappings, lambda process: list(smaps(process, "Swap"))):
            tracemalloc.start()
            with pytest.raises(MemoryError, match="maps: more than 32 MiB"):
                ask(process)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < MAX_LONG_BYTES // 8
    assert len(mappings(process)) == len(oracle.maps())


class Alarm(Exception):
    pass


def ring(*_):
    raise Alarm


def bytes_read():
    with open("/proc/self/io") as file:
        return int(file.readline().split()[1])


@pytest.mark.root
def test_a_signal_is_handled_while_it_is_read(deep):
    """As many bytes as took half a second would have been read before Ctrl-C was heard."""
    before = signal.signal(signal.SIGALRM, ring)
    try:
        with mapped(deep, 100):
            process, start = Process(), bytes_read()

            def read():
                signal.setitimer(signal.ITIMER_REAL, 0.005)  # a busy machine may be late to read
                mappings(process)

            with pytest.raises(Alarm):
                read()
            assert bytes_read() - start < 100 * 256 * DEPTH
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
