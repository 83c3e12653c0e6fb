"""A file of an overlay file system is shared memory when the layer that has it is a tmpfs.

The overlay knows nothing of its layers' swap: they have to be found, and to be the right ones.
"""

import contextlib
import os
import tempfile

import pytest

import backed
import fastpagemap as fpm
import linux
import oracle_files
import sharing
from compare import Said, ask, honest, while_still
from features import has_cachestat
from needs import Absent, need
from sharer import Sharer
from sharing import MIXED, expected, paint

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("any_swap")]

PAGES = len(MIXED)
ALL, NONE = sharing.extremes(PAGES)
_MS_PRIVATE, _CLONE_NEWNS = 1 << 18 | 0x4000, 0x20000
LAYERS = ("lower", "upper", "work")


@contextlib.contextmanager
def overlay(base, place=None):
    """An overlay with its layers in directories of `base`, mounted at a place of its own."""
    for name in LAYERS:
        os.mkdir(os.path.join(base, name))
    options = ",".join(f"{name}dir={base}/{name}" for name in LAYERS)
    if place is None:
        with backed.mounted("overlay", options) as directory:
            yield directory
        return
    linux.call("mount", b"overlay", os.fsencode(place), b"overlay", 0, options.encode())
    yield place


class File:
    """A file of an overlay, mapped, and the file in its upper layer."""

    def __init__(self, stack, base, directory, name="file"):
        path = os.path.join(directory, name)
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        os.ftruncate(fd, PAGES * backed.PAGE)
        self.made = stack.enter_context(backed.mapped(fd, PAGES))
        self.upper = os.open(os.path.join(base, "upper", name), os.O_RDWR)
        stack.callback(os.close, self.upper)
        self.path = path

    def paint(self, layout):
        """Bring the pages into their states, through the layer."""
        with backed.mapped(os.dup(self.upper), PAGES) as window:
            paint(window, layout)

    def truth(self):
        """Of each page, whether the layer's file has it in swap."""
        need(has_cachestat(), "cachestat (Linux 6.5)", Absent)
        return [oracle_files.swapped_in_file(self.upper, page) for page in range(PAGES)]

    def check(self, layout, look):
        """Paint and look; what is said has to be true. Return it."""

        def painted():
            self.paint(layout)
            return expected(layout)

        _, said = while_still(look, painted, self.truth)
        honest(said, expected(layout))
        return said


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


def asked_of(made, pid=None):
    """A question about a memory, to be asked later."""

    def look():
        with fpm.PageMap(pid) as pm:
            return ask(pm, made.start, made.end)

    return look


def test_root_is_told_all(stack):
    base = stack.enter_context(backed.mounted("tmpfs"))
    file = File(stack, base, stack.enter_context(overlay(base)))
    for layout in (MIXED, ALL, NONE):
        said = file.check(layout, asked_of(file.made))
        assert said == Said(expected(layout), [False] * PAGES)


def test_another_file_at_the_path(stack):
    """The layer's file has to be looked up for the file that is mapped, not for the path."""
    base = stack.enter_context(backed.mounted("tmpfs"))
    directory = stack.enter_context(overlay(base))
    file, other = (File(stack, base, directory, name) for name in ("file", "other"))
    with backed.bound(other.path, file.path):
        for layout, others in ((NONE, ALL), (ALL, NONE), (MIXED, ALL)):
            other.paint(others)
            file.check(layout, asked_of(file.made))


def test_another_overlay_at_the_path(stack):
    """Where the process has other mounts than who asks, a path leads each of them elsewhere."""
    mine, theirs = (stack.enter_context(backed.mounted("tmpfs")) for _ in range(2))
    place = stack.enter_context(overlay(mine))
    impostor = File(stack, mine, place)
    layout = MIXED

    def map_there():
        linux.call("unshare", _CLONE_NEWNS)
        linux.call("mount", None, b"/", None, _MS_PRIVATE, None)
        with overlay(theirs, place):
            file = File(contextlib.ExitStack(), theirs, place)
        file.paint(layout)
        return file.made.start, file.made.end

    with Sharer({"map": map_there}) as other:
        start, end = other.ask("map")
        for others in (ALL, NONE):
            impostor.paint(others)
            with fpm.PageMap(other.pid) as pm:
                honest(ask(pm, start, end), expected(layout))


def test_layers_out_of_sight(stack):
    """The paths of its layers, as they stand in its options, may lead elsewhere by now."""
    hidden = stack.enter_context(backed.mounted("tmpfs"))
    base = stack.enter_context(tempfile.TemporaryDirectory(dir=backed.disk_directory()))
    with backed.bound(hidden, base):
        directory = stack.enter_context(overlay(base))
        file = File(stack, base, directory)
    for name in LAYERS:  # on the disk
        os.mkdir(os.path.join(base, name))
    with open(os.path.join(base, "upper", "file"), "wb") as impostor:
        os.truncate(impostor.fileno(), PAGES * backed.PAGE)
    for layout in (ALL, MIXED, NONE):
        file.check(layout, asked_of(file.made))
