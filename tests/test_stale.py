"""Shared memory that changes between what is asked first and what is asked then."""

import contextlib
import fcntl
import os
import signal
import tempfile

import pytest

import backed
import fastpagemap as fpm
import fastpagemap.engine.masks as masks_of
import fastpagemap.engine.pages as entries_of
import linux
import memory
import oracle_files
import runas
import sharing
from compare import Said, honest
from features import has_cachestat
from linux import PAGE
from needs import Absent, need
from painted import ask_as, ask_painted
from sharing import MIXED, expected, paint
from victim import Victim

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("any_swap")]

PAGES = len(MIXED)


def cover(made):
    """Put private memory, of which nothing is there, in the place of a memory."""
    made.map(memory.PRIVATE)


def move(made):
    """Show other pages of the same file: behind its end."""
    made.map(backed.FILE_SHARED, fd=made.fd, offset=PAGES)


def change(made):
    """Show another file, of holes."""
    fd = backed.sized_memfd(PAGES)
    made.map(backed.FILE_SHARED, fd=fd)
    os.close(fd)


def split(made):
    """Make two mappings of one."""
    made.protect(memory.READ, 0, PAGES // 3)


#: What may happen, to which kind of memory: one with a descriptor of it, and one with none.
CHANGES = pytest.mark.parametrize(
    ("happen", "kind"),
    [(happen, "memfd") for happen in (memory.Memory.unmap, cover, move, change, split)]
    + [(happen, "shared_anonymous") for happen in (memory.Memory.unmap, cover, split)],
)


@contextlib.contextmanager
def painted(kind):
    """Shared memory, its PageMap and its mapping."""
    need(has_cachestat(), "cachestat (Linux 6.5)", Absent)
    with sharing.KINDS[kind](PAGES) as made, fpm.PageMap() as pm:
        paint(made, MIXED)
        (mapping,) = [m for m in pm.mappings() if m.start == made.start]
        yield made, pm, mapping


@CHANGES
def test_usage_of_a_mapping_that_was(happen, kind):
    """What is counted is what is there now, and root is told all of it."""
    with painted(kind) as (made, pm, mapping):
        happen(made)
        (row,) = pm.usage([mapping])
        real = sum(oracle_files.swapped(made.start, made.end)) * PAGE
        assert (row["swapped"], row["swapped_shared"], row["unknown"]) == (real, real, 0)


@pytest.mark.parametrize("kind", ["memfd", "shared_anonymous"])
def test_usage_of_a_part_of_a_mapping(kind):
    with painted(kind) as (made, pm, mapping):
        first, last = PAGES // 4, PAGES // 2
        part = mapping._replace(start=made.at(first), end=made.at(last), offset=first * PAGE)
        (row,) = pm.usage([part])
        assert row["swapped"] == sum(expected(MIXED)[first:last]) * PAGE
        assert row["unknown"] == 0


@CHANGES
def test_pages_that_are_resolved_later(happen, kind):
    """Swapped and unknown are looked up when asked for, and the mapping may be another by then."""
    with painted(kind) as (made, pm, _):
        pages = pm.read(made.start, made.end)
        happen(made)
        said = Said(pages.swapped.tolist(), pages.unknown.tolist())
    honest(said, expected(MIXED))


@pytest.mark.parametrize("first", ["private", "shared"])
def test_pages_of_a_mapping_that_came_while_they_were_read(monkeypatch, first):
    """The file of the newcomer says nothing of entries that may be older."""
    real = entries_of.read

    def read(process, start, entries):
        if first == "shared":
            made.map(backed.FILE_SHARED, fd=made.fd)
        real(process, start, entries)
        if first == "private":
            made.map(backed.FILE_SHARED, fd=made.fd)

    monkeypatch.setattr(entries_of, "read", read)
    with painted("memfd") as (made, pm, _):
        cover(made)
        pages = pm.read(made.start, made.end)
        assert not pages.swapped.any()
        assert (pages.unknown == ~pages.present).all()


def test_masks_of_a_mapping_that_came_before_entries_were_read(monkeypatch):
    """Private memory was there when it was looked up: its entries would have told all."""
    real = masks_of.read_small

    def read_small(*arguments):
        made.map(backed.FILE_SHARED, fd=made.fd)
        real(*arguments)

    monkeypatch.setattr(masks_of, "read_small", read_small)
    with painted("memfd") as (made, pm, _):
        cover(made)
        said = Said(*(getattr(pm, name)(made.start, made.end).tolist() for name in Said._fields))
    honest(said, expected(MIXED))


def test_a_mapping_that_grew_beyond_what_a_file_can_be():
    """Mremap does not mind; no file has anything there."""
    beyond, pages = 8, 1024
    with painted("memfd"), backed.memfd(pages) as made, fpm.PageMap() as pm:
        made.map(backed.FILE_SHARED, fd=made.fd, offset=(1 << 63) // PAGE - 2, last=1)
        made.unmap(1, pages)
        linux.call("mremap", made.start, PAGE, pages * PAGE, 0)
        part = fpm.Mapping(made.at(beyond), made.end, "rw-s", 0, 0, 0, "")
        assert not pm.swapped(part.start, part.end).any()
        assert not pm.usage([part], fields=["swapped"])["swapped"].any()
        assert not len(pm.states([part]))


def test_pages_that_are_resolved_when_the_process_is_gone():
    with Victim() as victim, fpm.PageMap(victim.pid) as pm:
        span = victim.make("memfd_sparse", PAGES)
        victim.pageout(span)
        pages = pm.read(span.start, span.end)
        victim.kill()
        assert not pages.swapped.any()
        assert (pages.unknown == ~pages.present).all()


def test_a_file_that_is_replaced_while_it_is_open():
    """The path leads to another file, the descriptor and the mapping do not."""
    with backed.posix(PAGES) as made:
        os.fchmod(made.fd, 0o666)
        path = os.readlink(f"/proc/self/fd/{made.fd}")
        with tempfile.NamedTemporaryFile(dir=os.path.dirname(path), delete=False) as file:
            os.truncate(file.fileno(), PAGES * PAGE)
            os.rename(file.name, path)
        assert ask_painted(made, MIXED, keep_fd=True).swapped == expected(MIXED)
        honest(ask_painted(made, MIXED), expected(MIXED))


def test_a_lease_holds_nobody_up():
    """Opening a file that is leased waits for its holder; a question must not."""

    def leased(made):
        fcntl.fcntl(made.fd, fcntl.F_SETSIG, signal.SIGURG)  # which is ignored
        fcntl.fcntl(made.fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        try:
            return ask_as(made, uid=0, capabilities=[runas.CAP_SYS_ADMIN])
        finally:
            fcntl.fcntl(made.fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)

    with backed.posix(PAGES) as made:
        honest(ask_painted(made, MIXED, look=leased), expected(MIXED))
