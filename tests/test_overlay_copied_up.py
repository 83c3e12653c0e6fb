"""A file of an overlay that was mapped before it was copied up shows the lower one (root).

The overlay shows both with one inode, and with the times that its file has now.
"""

import contextlib
import os
import tempfile

import pytest

import backed
import fastpagemap as fpm
import linux
import memory
import oracle_files
from compare import Said, ask, honest, while_still
from features import has_cachestat
from needs import Absent, need
from sharing import MIXED, expected, extremes, paint

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("any_swap")]

PAGES = len(MIXED)
ALL, NONE = extremes(PAGES)
ON_DISK = [False] * PAGES
LAYERS = pytest.mark.parametrize(
    ("lower", "upper"),
    [("tmpfs", "tmpfs"), ("disk", "tmpfs"), ("tmpfs", "disk")],
    ids=["both on tmpfs", "upper on tmpfs", "lower on tmpfs"],
)


class Overlay(contextlib.ExitStack):
    """An overlay over two layers, with one file in the lower one."""

    def __init__(self, lower, upper, linked=False, options=""):
        """Mount it; of a file with a second name, no trace is kept when it is copied up."""
        super().__init__()
        places = {
            "tmpfs": self.enter_context(backed.mounted("tmpfs")),
            "disk": self.enter_context(tempfile.TemporaryDirectory(dir=backed.disk_directory())),
        }
        self.lower, self.upper = f"{places[lower]}/lower", f"{places[upper]}/upper"
        work = f"{places[upper]}/work"
        for name in (self.lower, self.upper, work):
            os.mkdir(name)
        with open(f"{self.lower}/file", "wb") as file:
            file.write(b"x" * PAGES * backed.PAGE)
        if linked:
            os.link(f"{self.lower}/file", f"{self.lower}/link")
        options = f"lowerdir={self.lower},upperdir={self.upper},workdir={work}{options}"
        self.directory = self.enter_context(backed.mounted("overlay", options))

    def map(self, flags, name="file"):
        """Map a file of it: as it is now, or copied up if it is to be written."""
        fd = os.open(f"{self.directory}/{name}", flags)
        rights = memory.READ if flags == os.O_RDONLY else memory.READ_WRITE
        return self.enter_context(memory.Memory(PAGES, backed.FILE_SHARED, rights, fd))

    def layer(self, path):
        """The file in a layer, to bring its pages into their states; None if it is on a disk."""
        if linux.filesystem(path) == linux.TMPFS_MAGIC:
            fd = os.open(path, os.O_RDWR)
            return self.enter_context(backed.mapped(fd, PAGES))
        return None


def check(made, window, layout):
    """Have a layer's file painted, and what is said of a mapping of it be true; return that."""
    need(has_cachestat(), "cachestat (Linux 6.5)", Absent)

    def painted():
        made.drop()
        if window is None:
            return ON_DISK
        paint(window, layout)
        return expected(layout)

    def look():
        with fpm.PageMap() as pm:
            return ask(pm, made.start, made.end)

    def after():
        if window is None:
            return ON_DISK
        return [oracle_files.swapped_in_file(window.fd, page) for page in range(PAGES)]

    real, said = while_still(look, painted, after)
    honest(said, real)
    return said


@LAYERS
@pytest.mark.parametrize("kind", ["traced", "untraced", "untraced, renamed", "untraced, xino"])
def test_both_mappings_of_a_file_that_was_copied_up(lower, upper, kind):
    linked, renamed = "untraced" in kind, "renamed" in kind
    with Overlay(lower, upper, linked, ",xino=on" if "xino" in kind else "") as overlay:
        old = overlay.map(os.O_RDONLY)
        new = overlay.map(os.O_RDWR)
        if renamed:
            os.rename(f"{overlay.directory}/file", f"{overlay.directory}/moved")
        below = overlay.layer(f"{overlay.lower}/file")
        above = overlay.layer(f"{overlay.upper}/{'moved' if renamed else 'file'}")
        for layouts in ((MIXED, ALL), (NONE, MIXED), (ALL, NONE)):
            for made, window, layout in ((old, below, layouts[0]), (new, above, layouts[1])):
                check(made, window, layout)


@LAYERS
def test_a_file_that_was_not_copied_up_is_known(lower, upper):
    with Overlay(lower, upper) as overlay:
        made, window = overlay.map(os.O_RDONLY), overlay.layer(f"{overlay.lower}/file")
        for layout in (MIXED, ALL, NONE):
            said = check(made, window, layout)
            assert said == Said(expected(layout) if window else ON_DISK, [False] * PAGES)


@LAYERS
def test_a_file_that_was_never_in_a_lower_layer_is_known(lower, upper):
    """Also where the layers are on different file systems, as in a live system."""
    with Overlay(lower, upper) as overlay:
        made = overlay.map(os.O_RDWR | os.O_CREAT, "new")
        os.truncate(made.fd, PAGES * backed.PAGE)
        window = overlay.layer(f"{overlay.upper}/new")
        for layout in (MIXED, ALL, NONE):
            said = check(made, window, layout)
            assert said == Said(expected(layout) if window else ON_DISK, [False] * PAGES)
