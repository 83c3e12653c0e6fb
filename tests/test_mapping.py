"""/proc/PID/maps to Mapping: every field, every byte of a path, every process."""

import ctypes
import itertools
import mmap
import os
import pickle

import pytest

import backed
import fastpagemap as fpm
import linux
import memory
import oracle
import runas
from fastpagemap._kernel import procmaps
from fastpagemap.process.mappings import within
from fastpagemap.process.process import Process
from linux import PAGE
from memory import Memory
from needs import Absent, need
from victim import Victim

PR_SET_VMA = 0x53564D41


def as_twin(mapping):
    """A Mapping in the terms of oracle.MapsLine."""
    device = f"{os.major(mapping.device):02x}:{os.minor(mapping.device):02x}"
    path = os.fsencode(mapping.path).replace(b"\n", rb"\012")
    return oracle.MapsLine(
        mapping.start,
        mapping.end,
        mapping.permissions,
        mapping.offset,
        device,
        mapping.inode,
        path,
    )


def mapping_at(start, pid=None):
    """The one mapping that begins at an address."""
    with fpm.PageMap(pid) as pm:
        (found,) = [mapping for mapping in pm.mappings() if mapping.start == start]
    return found


def processes():
    """Every other pid there is now. To read its own maps, a process takes memory and returns it."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if pid != os.getpid()]


def test_every_process_is_as_the_twin_reads_it():
    compared = 0
    for pid in processes():
        try:
            with fpm.PageMap(pid) as pm:
                before = oracle.maps(pid)
                found = pm.mappings()
                after = oracle.maps(pid)
        except (ProcessLookupError, PermissionError, FileNotFoundError):
            continue
        if before == after:  # it held still
            assert [as_twin(mapping) for mapping in found] == before
            compared += 1
    assert compared


def test_another_process_is_as_the_twin_reads_it():
    with Victim() as victim:
        victim.make("gap", 30)
        with fpm.PageMap(victim.pid) as pm:
            assert [as_twin(mapping) for mapping in pm.mappings()] == oracle.maps(victim.pid)


def test_many_mappings_are_as_the_twin_reads_them():
    """20,000 lines: many reads of the file, each ending somewhere else."""
    with Victim() as victim:
        span = victim.make("untouched", 20_000)
        victim.ask("stripe", span.number)
        with fpm.PageMap(victim.pid) as pm:
            found = pm.mappings()
        assert len(found) > 20_000
        assert [as_twin(mapping) for mapping in found] == oracle.maps(victim.pid)


def test_fields_of_a_file_mapping():
    with backed.file_shared(5, offset=3) as made:
        found = mapping_at(made.start)
        status = os.fstat(made.fd)
    assert (found.start, found.end) == (made.start, made.end)
    assert found.pages == 5
    assert found.offset == 3 * PAGE
    assert found.inode == status.st_ino
    assert found.permissions == "rw-s"
    assert (found.shared, found.writable, found.anonymous) == (True, True, False)


@pytest.mark.parametrize(
    ("protection", "flags", "expected"),
    [
        (memory.READ_WRITE, memory.PRIVATE, ("rw-p", False, True, True)),
        (memory.READ, memory.PRIVATE, ("r--p", False, False, True)),
        (memory.NONE, memory.PRIVATE, ("---p", False, False, True)),
        (memory.READ | mmap.PROT_EXEC, memory.PRIVATE, ("r-xp", False, False, True)),
        (memory.READ_WRITE, memory.SHARED, ("rw-s", True, True, False)),
    ],
)
def test_permissions(protection, flags, expected):
    with Memory(3, flags, protection) as made:
        found = mapping_at(made.start)
    assert (found.permissions, found.shared, found.writable, found.anonymous) == expected


def test_a_mapping_is_a_value():
    with Memory(3) as made:
        found, again = mapping_at(made.start), mapping_at(made.start)
    assert found == again
    assert hash(found) == hash(again)
    assert len({found, again}) == 1
    assert pickle.loads(pickle.dumps(found)) == found
    with pytest.raises(AttributeError):
        found.start = 0
    with pytest.raises(AttributeError):
        found.remark = "no room for it"
    for part in ("start", "end", "permissions", "offset", "device", "inode", "path"):
        assert part in repr(found)


def test_mappings_are_in_order_and_do_not_overlap():
    with fpm.PageMap() as pm:
        found = pm.mappings()
    assert isinstance(found, list)
    assert all(mapping.start < mapping.end for mapping in found)
    assert all(left.end <= right.start for left, right in itertools.pairwise(found))


def test_nothing_is_cached():
    with fpm.PageMap() as pm:
        with Memory(3) as made:
            assert made.start in {mapping.start for mapping in pm.mappings()}
        assert made.start not in {mapping.start for mapping in pm.mappings()}


def test_special_mappings():
    with fpm.PageMap() as pm:
        found = {mapping.path: mapping for mapping in pm.mappings()}
    assert found["[stack]"].anonymous
    assert not found["[vdso]"].anonymous
    assert not any(found[path].shared for path in found if path.startswith("[v"))


NAMES = {
    "plain": b"plain",
    "spaces": b"  two  and at the end  ",
    "newline": b"line\nbreak\n",
    "deleted": b"not really (deleted)",
    "bytes": b"no UTF-8 \xff\xfe\x80",
    "brackets": b"[heap]",
    "control": b"\x01\x1b[31m\x7f\t\r",
    "quotes": b"'\"$`;",
    "backslash": b"back\\slash\\",
}


@pytest.mark.parametrize("unlinked", [False, True], ids=["linked", "unlinked"])
@pytest.mark.parametrize("name", NAMES)
def test_every_byte_of_a_path_survives(tmp_path, name, unlinked):
    path = os.path.join(os.fsencode(tmp_path), NAMES[name])
    assert found_under(path, unlinked) == os.fsdecode(path + b" (deleted)" * unlinked)


def found_under(path, unlinked=False):
    """The path of a mapping of a new file at `path`."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.ftruncate(fd, 2 * PAGE)
    with backed.mapped(fd, 2) as made:
        if unlinked:
            os.unlink(path)
        return mapping_at(made.start).path


@pytest.mark.root
def test_an_escape_in_a_name_is_told_from_a_newline(tmp_path):
    r"""Maps writes both as \012; who may read map_files sees the difference."""
    path = os.path.join(os.fsencode(tmp_path), b"a\\012b\nc")
    assert found_under(path) == os.fsdecode(path)


def test_a_newline_is_a_newline_to_nobody(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"a\nb")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.ftruncate(fd, PAGE)
    with backed.mapped(fd, 1) as made:
        assert runas.as_nobody(lambda: mapping_at(made.start).path) == os.fsdecode(path)


def test_long_path(tmp_path):
    directory = os.fsencode(tmp_path)
    while len(directory) < 3800:
        directory = os.path.join(directory, b"d" * 200)
        os.mkdir(directory)
    path = os.path.join(directory, b"long")
    assert found_under(path) == os.fsdecode(path)


def test_named_anonymous_memory():
    with Memory(3) as made:
        name = ctypes.create_string_buffer(b"my (deleted) name")
        try:
            linux.call("prctl", PR_SET_VMA, 0, made.start, 3 * PAGE, name)
        except OSError:
            need(False, "names for anonymous memory (CONFIG_ANON_VMA_NAME)", Absent)
        found = mapping_at(made.start)
    assert found.path == "[anon:my (deleted) name]"
    assert found.anonymous


def test_mappings_that_merge_between_two_queries(monkeypatch):
    """What has grown over a mapping found before takes its place: no address is in two."""
    need(fpm.capabilities().procmap_query, "PROCMAP_QUERY (Linux 6.11)", Absent)
    query = procmaps.query

    def query_and_merge(*arguments):
        found = query(*arguments)
        made.protect(memory.READ_WRITE)
        return found

    with memory.touched(8) as made:
        made.protect(memory.READ, 4, 8)
        monkeypatch.setattr(procmaps, "query", query_and_merge)
        found = within(Process(), made.start, made.end)
    assert [mapping[:2] for mapping in found] == [(made.start, made.end)]
