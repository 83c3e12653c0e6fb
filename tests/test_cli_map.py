"""`fastpagemap map`: where everything goes, and which colours are in the picture."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import fastpagemap as fpm
import oracle
import pictures
from commandline import run
from fastpagemap import Mapping, State
from fastpagemap.report import layout, palette
from fastpagemap.report.spans import spans_of
from victim import Victim

image = pytest.importorskip("matplotlib.image")

PAGE = fpm.PAGE_SIZE
BASE = 0x7F0000000000


def test_a_home_of_another_user_is_no_matter(tmp_path):
    """What matplotlib says of its directories is nothing that went wrong."""
    environment = {**os.environ, "HOME": "/dev/null", "MPLCONFIGDIR": "/dev/null/none"}
    said = run("map", os.getpid(), "-o", tmp_path / "a.png", env=environment)
    assert (said.returncode, said.stdout, said.stderr) == (0, b"", b"")


def test_a_matplotlibrc_is_no_matter(tmp_path):
    """People set TeX, a resolution and margins there for figures of their own."""
    (tmp_path / "matplotlibrc").write_text(
        "text.usetex: True\nsavefig.dpi: 300\nsavefig.bbox: tight\nfont.size: 30\n"
    )
    program = (
        "import sys, fastpagemap as fpm; file = sys.argv[1]; fpm.PageMap().snapshot().save(file)"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "a.fpm"], check=True)
    made = []
    for path in ("/dev/null", tmp_path / "matplotlibrc"):
        environment = {**os.environ, "MATPLOTLIBRC": str(path)}
        said = run("map", tmp_path / "a.fpm", "-o", tmp_path / "a.png", env=environment)
        assert (said.returncode, said.stderr) == (0, b"")
        made.append((tmp_path / "a.png").read_bytes())
    assert made[0] == made[1]


@pytest.mark.parametrize("backend", ["no-such-backend", "tkagg"])
def test_a_backend_is_no_matter(backend, tmp_path):
    """A file needs none."""
    environment = {**os.environ, "MPLBACKEND": backend}
    said = run("map", os.getpid(), "-o", tmp_path / "a.png", env=environment)
    assert (said.returncode, said.stdout, said.stderr) == (0, b"", b"")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


# ---- layout ------------------------------------------------------------------------------------


def mapping(first, last, path="", permissions="rw-p"):
    return Mapping(BASE + first * PAGE, BASE + last * PAGE, permissions, 0, 0, 0, path)


def runs_of(*runs):
    rows = [(BASE + low * PAGE, BASE + high * PAGE, int(state)) for low, high, state in runs]
    return np.array(rows, fpm.RUN_DTYPE)


def laid_out(mappings, runs, columns=16, max_rows=32):
    return layout.lay_out(mappings, runs, page_size=PAGE, columns=columns, max_rows=max_rows)


def drawn(found):
    """The picture in characters."""
    rows = [[" "] * found.columns for _ in range(found.rows)]
    for part in found.parts:
        chars = (
            "~" * part.width
            if part.cut
            else "".join(
                palette.STATES[index].char
                for index in found.shown[part.first : part.first + part.width]
            )
        )
        assert part.column + part.width <= found.columns
        for at, char in enumerate(chars, part.column):
            assert rows[part.row][at] == " "
            rows[part.row][at] = char
    return ["".join(row).rstrip() for row in rows]


def test_every_page_has_its_cell():
    mappings = [mapping(0, 20), mapping(100, 103, "/lib/a"), mapping(103, 105, "/lib/b")]
    runs = runs_of(
        (2, 5, State.PRESENT),
        (19, 20, State.SWAPPED),
        (101, 103, State.PRESENT),
        (103, 104, State.PRESENT),
    )
    assert drawn(laid_out(mappings, runs)) == ["..###...........", "...s", ".## #."]


def test_neighbours_of_one_path_are_one_span():
    mappings = [mapping(0, 2, "/lib/a"), mapping(2, 4, "/lib/a", "r-xp"), mapping(4, 6, "/lib/b")]
    spans = spans_of(mappings)
    assert [(span.path, span.mappings, span.size) for span in spans] == [
        ("/lib/a", 2, 4 * PAGE),
        ("/lib/b", 1, 2 * PAGE),
    ]


@pytest.mark.parametrize("beside", [[], [mapping(1000, 1003, "/a")], [mapping(-3, 0, "/a")]])
@pytest.mark.parametrize("at", [0, 500, 995])
def test_long_stretches_of_nothing_are_cut_out(beside, at):
    mappings = sorted([mapping(0, 1000), *beside])
    found = laid_out(mappings, runs_of((at, at + 5, State.PRESENT)))
    assert found.cell == PAGE
    assert sum(part.cut for part in found.parts) == 995 * PAGE
    assert "".join(drawn(found)).count("#") == 5


def test_cells_grow_until_all_fits():
    found = laid_out([mapping(0, 16384)], runs_of((0, 16384, State.PRESENT)), max_rows=8)
    assert (found.cell, found.rows) == (128 * PAGE, 8)
    assert set("".join(drawn(found))) == {"#"}


def test_a_large_reservation_costs_what_is_in_it():
    tib = (1 << 40) // PAGE
    parts = [(at * tib // 16, at * tib // 16 + 64, State.PRESENT) for at in range(16)]
    found = laid_out([mapping(0, tib)], runs_of(*parts), columns=136, max_rows=64)
    assert found.cell == PAGE
    assert "".join(drawn(found)).count("#") == 16 * 64
    assert sum(part.cut for part in found.parts) == (tib - 16 * 64) * PAGE


@pytest.mark.parametrize("count", [0, 1, 2000, 9000])
def test_many_mappings(count):
    """However many: all bytes are in the picture, and it does not grow without end."""
    mappings = [mapping(3 * at, 3 * at + 2, f"/{at}") for at in range(count)]
    runs = runs_of(*[(3 * at, 3 * at + 1, State.PRESENT) for at in range(count)])
    found = laid_out(mappings, runs, columns=136, max_rows=64)
    assert found.rows <= 130
    assert found.table[:, 0].sum() == pytest.approx(count * PAGE)
    assert sum(len(block.spans) for block in found.blocks) == count
    drawn(found)


# ---- pictures ----------------------------------------------------------------------------------


def colours(path):
    """How many cells, of a picture of one mapping, are of each state's colour."""
    codes = pictures.colours(path)
    return {state.key: int((codes == int(state.colour[1:], 16)).sum()) for state in palette.STATES}


@pytest.fixture(scope="module")
def victim():
    with Victim() as victim:
        yield victim


def picture_of(span, path):
    said = run("map", span.victim.pid, "-o", path, "--mapping", f"{span.start:x}")
    assert (said.returncode, said.stdout, said.stderr) == (0, b"", b"")
    return colours(path)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("touched", {"anonymous": 1}),
        ("shared_anonymous", {"shared": 1}),
        ("zero", {"zero": 1}),
        ("guarded", {"anonymous": 0.75, "guard": 0.25}),
        ("sparse", {"anonymous": 1 / 3, "untouched": 2 / 3}),
        ("huge", {"huge": 1}),
    ],
)
def test_cells_are_coloured_by_state(victim, kind, expected, tmp_path):
    """As many cells of each colour as there are pages in that state."""
    found = picture_of(victim.make(kind, 512), tmp_path / "a.png")
    assert found == {key: pytest.approx(512 * expected.get(key, 0), abs=1) for key in palette.KEYS}


def test_a_matplotlibrc_of_the_directory_is_not_read(victim, tmp_path):
    """Whose directory it is chooses what is in there: even to open it may take for ever."""
    os.mkfifo(tmp_path / "matplotlibrc")
    command = [sys.executable, "-P", "-m", "fastpagemap", "map", str(victim.pid), "-o", "a.png"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=100)
    assert sorted(os.listdir(tmp_path)) == ["a.png", "matplotlibrc"]


def test_swapped_memory(victim, any_swap, tmp_path):
    # Others are told how much of shared memory is swapped, but not which of its pages.
    of_shared = "swapped_shared" if os.geteuid() == 0 else "unknown"
    for kind, key, there in (
        ("shared_anonymous", of_shared, "shared"),
        ("touched", "swapped_anonymous", "anonymous"),
    ):
        span = victim.make(kind, 400)
        victim.pageout(span)
        span.do("read", 0, 100)
        found = picture_of(span, tmp_path / "a.png")
        sums = oracle.smaps(victim.pid)[span.start, span.end]
        assert found[key] == sums["Swap"] // PAGE > 200
        assert found[there] == sums["Rss"] // PAGE >= 100
        assert found[key] + found[there] == sum(found.values()) == 400


def test_all_formats_widths_and_a_snapshot(victim, tmp_path):
    snapshot = tmp_path / "memory.fpm"
    assert run("dump", victim.pid, "-o", snapshot).returncode == 0
    for width in (640, 3000):
        path = tmp_path / "a.png"
        assert run("map", snapshot, "-o", path, "--width", width).returncode == 0
        assert image.imread(path).shape[1] == width
    path = tmp_path / "a.svg"
    assert run("map", snapshot, "-o", path).returncode == 0
    text = "".join(ElementTree.parse(path).getroot().itertext())
    assert "nothing" not in text
    assert sorted(os.listdir(tmp_path)) == ["a.png", "a.svg", "memory.fpm"]


def test_names_are_text_and_nothing_else(tmp_path):
    """Not formulas, as matplotlib reads $; not what a font has no letters for, with a warning."""
    name = "$x^2$ \\alpha 漢字 \udcff\x1b[31m"
    path = tmp_path / name
    path.write_bytes(b"x" * PAGE)
    program = (
        "import mmap, sys; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, prot=1); m[0];"
        "print('made', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        said = run("map", process.pid, "-o", tmp_path / "a.png", "--path", "$x^2$")
        assert (said.returncode, said.stderr) == (0, b"")
        process.stdin.close()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["-o", "a.gif"], 2),
        ([], 2),
        (["-o", "a.png", "--width", "3"], 2),
        (["-o", "a.png", "--mapping", "here"], 2),
        (["-o", "a.png", "--path", "no such"], 1),
        (["-o", "missing/a.png"], 1),
    ],
)
def test_misuse_and_failure(victim, arguments, code, tmp_path):
    said = run("map", victim.pid, *arguments, cwd=tmp_path)
    assert (said.returncode, said.stdout) == (code, b"")
    assert said.stderr.count(b"\n") == 1
    assert os.listdir(tmp_path) == []


def test_a_plot_without_matplotlib_says_what_to_install():
    program = (
        "import sys; sys.modules['matplotlib'] = None; import fastpagemap as fpm\n"
        "try: fpm.PageMap().snapshot().plot()\n"
        "except ImportError as error: print(error.name, error)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert said.stdout == "matplotlib pictures need matplotlib: pip install 'fastpagemap[plot]'\n"
