"""What all tests share: swap, privilege, and a true account of what this machine could not test.

A test says what it needs by a marker, a fixture or the laboratory's makers, all of which raise
needs.Missing. That becomes a skip naming what is missing; with FASTPAGEMAP_NO_SKIP=1 it is a
failure, unless no setting up could give this machine what its kernel has not got.
"""

import contextlib
import errno
import inspect
import os
import shutil
import signal
import tempfile
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

import fastpagemap
import oracle
import runas
import swap
from fastpagemap.snapshot import replace_file
from needs import Absent, Missing, met, need
from victim import Victim

# What people set for their own terminals is not what the tests' terminals are; those that test
# such a variable set it themselves.
_OF_TERMINALS = """
    COLUMNS LINES NO_COLOR FORCE_COLOR CLICOLOR CLICOLOR_FORCE COLORTERM TTY_COMPATIBLE
    TTY_INTERACTIVE
"""
for _name in _OF_TERMINALS.split():
    os.environ.pop(_name, None)
os.environ["TERM"] = "xterm-256color"

SWAP_SIZE = 256 << 20
_missing: Counter = Counter()
_any_swap: set = set()  # its path, while there is one

# How long an example takes says nothing on a machine that others use as well, and nobody could
# not write to a database of examples.
settings.register_profile(
    "fastpagemap",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
    database=None,
)
settings.load_profile("fastpagemap")


def pytest_configure(config):
    config.addinivalue_line("markers", "root: the test needs to be root")
    # pytest's own place is /tmp/pytest-of-USER, which anybody can make before it does.
    if "PYTEST_DEBUG_TEMPROOT" not in os.environ:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = tempfile.mkdtemp(prefix="fastpagemap-tests-")
        config.add_cleanup(_remove_temporary)


def _remove_temporary():
    shutil.rmtree(os.environ.pop("PYTEST_DEBUG_TEMPROOT"), ignore_errors=True)


# What a test file imports that starts processes, becomes another user or makes swap.
_SLOW = {"asyncio", "commandline", "database", "memray_run", "multiprocessing", "painted"}
_SLOW |= {"prometheus"}
_SLOW |= {"runas", "screens", "setuptools", "sharer", "sharing", "subprocess", "swap", "victim"}
_SLOW_FIXTURES = {"swap_area", "any_swap", "zero_pfn", "victim"}


def pytest_collection_modifyitems(items):
    """Run first what needs no root, no swap and no other process: a broken basic shows at once.

    The order among these, and among the others, stays as it was.
    """
    items.sort(key=_is_slow)


def _is_slow(item):
    imported = {
        value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", None)
        for value in vars(item.module).values()
    }
    needs_root = item.get_closest_marker("root") is not None
    return needs_root or not _SLOW_FIXTURES.isdisjoint(item.fixturenames) or bool(imported & _SLOW)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    with _missing_skips():
        if item.get_closest_marker("root"):
            need(os.geteuid() == 0, "root")
        if "any_swap" in item.fixturenames and not _any_swap <= {
            each.path for each in swap.areas()
        }:
            raise Missing("the swap that was there at first")
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    with _missing_skips():
        return (yield)


class _missing_skips:
    """Turns Missing into a skip, or into a failure where no skip is allowed."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if not isinstance(error, Missing):
            return False
        _missing[str(error)] += 1
        if os.environ.get("FASTPAGEMAP_NO_SKIP") and not isinstance(error, Absent):
            pytest.fail(f"FASTPAGEMAP_NO_SKIP is set, and this machine lacks: {error}")
        pytest.skip(f"this machine lacks: {error}")


def pytest_terminal_summary(terminalreporter):
    """Which needs were met, and which were not: a green run must not hide what it left out."""
    if not met and not _missing:
        return
    terminalreporter.section("what this machine could test")
    for what in sorted(met | _missing):
        skipped = f", missing {_missing[what]} times" if _missing[what] else ""
        terminalreporter.write_line(f"{what}: met {met[what]} times{skipped}")


@pytest.fixture(scope="session", params=[swap.zram_swap, swap.file_swap], ids=["zram", "swapfile"])
def swap_area(request):
    """Swap of each kind, one after the other, preferred over any other there is; gives its path."""
    with request.param(SWAP_SIZE) as path:
        yield path


@pytest.fixture(scope="session")
def any_swap():
    """Some swap, of whichever kind can be had; gives its path."""
    with swap.any_swap(SWAP_SIZE) as path:
        _any_swap.add(path)
        yield path
        _any_swap.clear()


@pytest.fixture(scope="session")
def zero_pfn():
    """The frame number of the zero page."""
    need(os.geteuid() == 0, "root")
    return oracle.zero_pfn()


@pytest.fixture
def _write_tracking():
    """Asynchronous write-protection by userfaultfd, which WriteTracker needs."""
    known = fastpagemap.capabilities().userfaultfd_wp_async
    need(known, "userfaultfd WP_ASYNC (Linux 6.7)", Absent)


@pytest.fixture
def _access_tracking():
    """Asynchronous read-write protection by userfaultfd, which AccessTracker needs."""
    known = fastpagemap.capabilities().userfaultfd_rwp_async
    need(known, "userfaultfd RWP_ASYNC (Linux 7.3)", Absent)


@pytest.fixture(params=["writes", "accesses"])
def kind(request):
    """A tracker of each kind: what it promises of a write, the other promises of any access."""
    accesses = request.param == "accesses"
    request.getfixturevalue("_access_tracking" if accesses else "_write_tracking")
    return fastpagemap.AccessTracker if accesses else fastpagemap.WriteTracker


@pytest.fixture
def victim():
    """Another process, to be told what to do with its memory."""
    with Victim() as victim:
        yield victim


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
    real = replace_file.open_file

    def refuse(path, flags, *arguments):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), path)
        return real(path, flags, *arguments)

    monkeypatch.setattr(replace_file, "open_file", refuse)


@pytest.fixture(params=["unnamed", "named"])
def any_file_system(request):
    """One that makes files without a name, and one that does not."""
    if request.param == "named":
        request.getfixturevalue("named")
    return request.param


@pytest.fixture
def write_program(tmp_path):
    """Make a Python program of a text; its path."""

    def made(text):
        path = tmp_path / "program.py"
        path.write_text(text)
        return path

    return made


@pytest.fixture
def _ctrl_c():
    """Ctrl-C as in a terminal: what a shell runs in the background ignores it, children and all."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def open_descriptors():
    """Those into /proc; others are pytest's and multiprocessing's business."""
    links = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of this very listing
            links.append((name, os.readlink(f"/proc/self/fd/{name}")))
    return {link for link in links if link[1].startswith("/proc")}


@pytest.fixture
def _nothing_stays_open():
    """Every descriptor into /proc that a test opens is closed at its end."""
    before = open_descriptors()
    yield
    assert open_descriptors() <= before  # what others left may be closed by now
