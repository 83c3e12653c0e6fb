"""Files that a process chose to mislead, hold up or use who looks at it (root)."""

import contextlib
import os

import pytest

import backed
import fastpagemap as fpm
import fuse
import linux
import locks
import runas
import sharing
from compare import Said, ask, honest
from fastpagemap.process.namespaces import shows_all
from linux import PAGE
from needs import Absent, need, refusal
from painted import ask_as, ask_painted
from sharer import Sharer
from sharing import MIXED, expected, hide, paint

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("any_swap")]

PAGES = len(MIXED)
_CAP_SYS_PTRACE = 19
_CLONE_NEWNS, _MS_PRIVATE = 0x20000, 1 << 18 | 0x4000


def in_mounts_of_its_own():
    """Have what this process mounts from now on be seen by itself alone."""
    linux.call("unshare", _CLONE_NEWNS)
    linux.call("mount", None, b"/", None, _MS_PRIVATE, None)


def covered(directory):
    """Map a file on a tmpfs at a path that leads others elsewhere; some of it is swapped out."""
    in_mounts_of_its_own()
    target = os.fsencode(directory)
    linux.call("mount", b"tmpfs", target, b"tmpfs", 0, None)
    made = backed.posix(PAGES, directory=directory)
    paint(made, MIXED)
    return made.start, made.end


def look_everywhere(pid, start, end):
    """Ask all that may lead to the file behind a span."""
    with fpm.PageMap(pid) as pm:
        pm.masks(start, end)
        pm.usage()
        pm.states()
        pm.snapshot()
        return ask(pm, start, end)


WHO = {"map_files": (_CAP_SYS_PTRACE, runas.CAP_SYS_ADMIN), "no map_files": (_CAP_SYS_PTRACE,)}


@pytest.mark.parametrize("capabilities", WHO.values(), ids=WHO)
def test_a_path_that_leads_into_fuse(capabilities):
    with (
        fuse.mounted() as hidden,
        Sharer({"map": lambda: covered(hidden.directory)}) as other,
    ):
        start, end = other.ask("map")
        before = hidden.asked()
        said = runas.run_as(
            look_everywhere, other.pid, start, end, uid=0, capabilities=capabilities
        )
        assert hidden.asked() == before
        honest(said, expected(MIXED))


def test_a_path_that_leads_into_fuse_by_now():
    """Below the process's own root too, a path is walked in the kernel's memory alone."""
    with backed.mounted("tmpfs", "mode=755") as directory, contextlib.ExitStack() as stack:
        made = stack.enter_context(backed.posix(PAGES, directory=directory))
        paint(made, MIXED)
        hide(made)
        mounted = stack.enter_context(fuse.mounted(place=directory))
        before = mounted.asked()
        honest(ask_as(made, uid=0), expected(MIXED))
        assert mounted.asked() == before


def test_a_descriptor_of_fuse():
    """To find the file of a mapping among descriptors, none of another file's need be asked."""
    with fuse.mounted() as mounted, shown_to_all() as made:
        fd = os.open(mounted.path, os.O_RDONLY)
        before = mounted.asked()
        said = ask_painted(made, MIXED, keep_fd=True)
        assert mounted.asked() == before
        assert said == Said(expected(MIXED), [False] * PAGES)
        os.fstat(fd)
        assert mounted.asked() > before
        os.close(fd)


def test_a_mapping_of_fuse():
    """It is no shared memory, and no one needs to be asked to know that none of it is swapped."""
    with fuse.mounted(PAGES * PAGE) as mounted:
        fd = os.open(mounted.path, os.O_RDONLY)
        with backed.mapped(fd, PAGES, backed.FILE_PRIVATE) as made, fpm.PageMap() as pm:
            before = mounted.asked()
            said = ask(pm, made.start, made.end)
            runas.run_as(ask_as, made)
            assert mounted.asked() == before
        assert said == Said([False] * PAGES, [False] * PAGES)


def test_a_file_of_fuse_in_passthrough():
    """Its pages are those of the file behind it, which may be on a tmpfs."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(backed.mounted("tmpfs"))
        path = os.path.join(directory, "file")
        with open(path, "wb") as file:
            file.truncate(PAGES * PAGE)
        fd = stack.enter_context(fuse.passed_through(path))
        made = stack.enter_context(backed.mapped(os.dup(fd), PAGES))
        behind = stack.enter_context(backed.mapped(os.open(path, os.O_RDWR), PAGES))
        pm = stack.enter_context(fpm.PageMap())
        for layout in (MIXED, *sharing.extremes(PAGES)):
            paint(behind, layout)
            honest(ask(pm, made.start, made.end), expected(layout))


def test_a_layer_that_a_process_chose():
    """The layers of an overlay that this process does not see mounted are not looked for."""

    def map_in_overlay():
        in_mounts_of_its_own()
        target = os.fsencode(hidden.directory)
        linux.call("mount", b"tmpfs", target, b"tmpfs", 0, None)
        with overlay_in(hidden.directory) as directory:
            made = backed.posix(PAGES, directory=directory)
            paint(made, MIXED)
        return made.start, made.end

    with fuse.mounted() as hidden, Sharer({"map": map_in_overlay}) as other:
        start, end = other.ask("map")
        before = hidden.asked()
        honest(look_everywhere(other.pid, start, end), expected(MIXED))
        assert hidden.asked() == before


@contextlib.contextmanager
def overlay_in(base):
    """An overlay with its layers in directories of `base`, which stays mounted."""
    for name in ("lower", "upper", "work"):
        os.mkdir(os.path.join(base, name))
    target = os.path.join(base, "merged")
    os.mkdir(target)
    options = ",".join(f"{name}dir={base}/{name}" for name in ("lower", "upper", "work"))
    try:
        linux.call("mount", b"o", os.fsencode(target), b"overlay", 0, options.encode())
    except OSError as error:
        raise refusal(error, "to mount overlay") from error
    yield target


@contextlib.contextmanager
def shown_to_all():
    with backed.memfd(PAGES) as made:
        os.fchmod(made.fd, 0o666)
        yield made


# A lease: who opens the file sends its holder a signal, which may end it.


def leased(made):
    """Bring shared memory into some known states, and take a lease on its file."""
    paint(made, MIXED)
    locks.lease(made.fd)
    return made.start, made.end


@pytest.mark.parametrize("kind", ["memfd", "file"])
def test_the_holder_of_a_lease_is_not_told(kind):
    with backed.mounted("tmpfs") as directory:

        def map_leased():
            memfd = kind == "memfd"
            return leased(backed.memfd(PAGES) if memfd else backed.posix(PAGES, 0, directory))

        with Sharer({"lease": map_leased}) as other:
            start, end = other.ask("lease")
            honest(look_everywhere(other.pid, start, end), expected(MIXED))
            assert other.ask("ready") == other.pid


def test_a_lease_whose_descriptor_was_closed():
    """It lasts as long as the mapping. /proc/locks has it, if it has all locks of the machine."""
    need(shows_all(), "the processes of the whole machine", Absent)
    with open("/proc/locks", "rb") as file:
        need(len(file.read()) < 3 << 10, "few locks on this machine", Absent)
    with backed.mounted("tmpfs") as directory:

        def map_leased():
            made = backed.posix(PAGES, 0, directory)
            found = leased(made)
            os.close(made.fd)
            return found

        with Sharer({"lease": map_leased}) as other:
            start, end = other.ask("lease")
            honest(look_everywhere(other.pid, start, end), expected(MIXED))
            assert other.ask("ready") == other.pid


def test_a_lease_of_another_file_is_no_reason():
    def map_beside():
        leased(backed.memfd(PAGES))
        made = backed.memfd(PAGES)
        paint(made, MIXED)
        return made.start, made.end

    with Sharer({"map": map_beside}) as other:
        start, end = other.ask("map")
        said = look_everywhere(other.pid, start, end)
    assert said == Said(expected(MIXED), [False] * PAGES)
