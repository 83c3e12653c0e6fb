"""examples/memray_residency.py: what it says of programs that know what they have touched."""

import contextlib
import importlib
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from linux import PAGE
from needs import need

TESTS = Path(__file__).resolve().parent
EXAMPLE = TESTS.parent / "examples" / "memray_residency.py"
MIB = 1 << 20
ENVIRONMENT = os.environ | {
    "NUMPY_MADVISE_HUGEPAGE": "0",  # a touched byte is to cost a page, not a huge page
    "PYTHONPATH": os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")])),
    "PYTHONDONTWRITEBYTECODE": "1",
}

# memray sees the calls of shared libraries alone, not what ctypes calls by itself.
LIBRARY = """\
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void *new(size_t size) { return malloc(size); }
void *bigger(void *block, size_t size) { return realloc(block, size); }
void *aligned(size_t to, size_t size) { return aligned_alloc(to, size); }
void *mapped(void *at, size_t size, int fixed) {
    return mmap(at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0);
}
int unmap(void *at, size_t size) { return munmap(at, size); }
static void *in_thread(void *size) { return memset(malloc((size_t)size), 1, (size_t)size); }
void *thread(size_t size) {
    pthread_t thread;
    void *block = NULL;
    pthread_create(&thread, NULL, in_thread, (void *)size);
    pthread_join(thread, &block);
    return block;
}
"""

# A program's own account of an allocation: the function that made it, which is the call site, its
# address and size, the spans of it that were touched, and those that were then paged out.
PREAMBLE = """\
import ctypes, json, mmap, os, sys, threading
import numpy as np
import swap  # imported here, so that no function below is the first to

MIB, PAGE = 1 << 20, mmap.PAGESIZE
size_t, pointer = ctypes.c_size_t, ctypes.c_void_p
kept = []

def told(where, start, size, touched=(), paged=()):
    print(json.dumps([where, start, size, touched, paged]), flush=True)

def touch(start, size):
    ctypes.memset(start, 1, size)
    return [start, start + size]

def at(array):
    kept.append(array)
    return array.ctypes.data
"""

# Arenas with room for all that comes, so that none appears at a line that is looked at.
SPARE = "spare = [bytes(200) for _ in range(100_000)][::1000]\n"

ALLOCATORS = """
c = ctypes.CDLL(sys.argv[1])
for name in "new", "bigger", "aligned", "mapped", "thread":
    getattr(c, name).restype = pointer

def sparse():
    start = at(np.zeros(512 * MIB, np.uint8))
    return [(start, 512 * MIB, [touch(start, 8 * MIB)])]

def striped():
    start = at(np.empty(16 * MIB, np.uint8))
    return [(start, 16 * MIB, [touch(start + i, 1) for i in range(0, 16 * MIB, 16 * PAGE)])]

def freed():
    start = at(np.ones(4 * MIB, np.uint8))
    kept.pop()
    return [(start, 0)]

def small():
    block = c.new(size_t(600))
    return [(block, 600, [touch(block, 600)])]

def grown():
    block = c.new(size_t(8 * MIB))
    touch(block, 8 * MIB)
    block = c.bigger(pointer(block), size_t(32 * MIB))
    return [(block, 32 * MIB, [[block, block + 8 * MIB]])]

def aligned():
    block = c.aligned(size_t(65536), size_t(2 * MIB))
    return [(block, 2 * MIB, [touch(block + MIB, MIB)])]

def torn():
    block = c.mapped(pointer(), size_t(64 * PAGE), 0)
    touch(block, 64 * PAGE)
    c.unmap(pointer(block + 16 * PAGE), size_t(16 * PAGE))
    pieces = (block, 16 * PAGE), (block + 32 * PAGE, 32 * PAGE)
    return [(start, size, [[start, start + size]]) for start, size in pieces]

def under():
    global middle
    block = c.mapped(pointer(), size_t(48 * PAGE), 0)
    touch(block, 48 * PAGE)
    middle = block + 16 * PAGE
    pieces = (block, 16 * PAGE), (block + 32 * PAGE, 16 * PAGE)
    return [(start, size, [[start, start + size]]) for start, size in pieces]

def over():
    assert c.mapped(pointer(middle), size_t(16 * PAGE), mmap_fixed) == middle
    return [(middle, 16 * PAGE, [touch(middle, PAGE)])]

def odd():
    block = c.mapped(pointer(), size_t(3 * PAGE + 5), 0)
    return [(block, 3 * PAGE + 5, [touch(block + 3 * PAGE, 5)])]

def shared():
    memory = mmap.mmap(-1, 8 * MIB)
    kept.append(memory)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return [(start, 8 * MIB, [touch(start, 3 * MIB)])]

mmap_fixed = 0x10
makers = sparse, striped, freed, *[small] * 5000, grown, aligned, torn, under, over, odd, shared
made = [(each.__name__, row) for each in makers for row in each()]

def in_thread():
    start = at(np.zeros(16 * MIB, np.uint8))
    made.append(("in_thread", (start, 16 * MIB, [touch(start, 5 * MIB)])))

thread = threading.Thread(target=in_thread)
thread.start()
thread.join()
block = c.thread(size_t(2 * MIB))
made.append(("(a thread without Python frames)", (block, 2 * MIB, [[block, block + 2 * MIB]])))
for where, row in made:
    told(where, *row)
if os.fork() == 0:  # it ends as the program does, unseen
    sys.exit()
os.wait()
"""

PAGED_OUT = """
def private():
    start = at(np.ones(8 * MIB, np.uint8))
    first = -(-start // PAGE) * PAGE
    swap.pageout(first, first + 4 * MIB)
    return start, 8 * MIB, [[start, start + 8 * MIB]], [[first, first + 4 * MIB]]

def shared():
    memory = mmap.mmap(-1, 8 * MIB)
    kept.append(memory)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    touch(start, 4 * MIB)
    swap.pageout(start, start + 2 * MIB)
    return start, 8 * MIB, [[start, start + 4 * MIB]], [[start, start + 2 * MIB]]

told("private", *private())
told("shared", *shared())
"""

OBJECTS = """
def objects(kept):
    for i in range(len(kept)):
        kept[i] = b"%80d" % i

many = [None] * int(sys.argv[1])
objects(many)
for each in many:
    told("objects", id(each), sys.getsizeof(each), [[id(each), id(each) + sys.getsizeof(each)]])
"""


@pytest.fixture(scope="module")
def example():
    """The example as a module."""
    need(importlib.util.find_spec("memray"), "memray")
    sys.path.insert(0, str(EXAMPLE.parent))
    try:
        yield importlib.import_module("memray_residency")
    finally:
        sys.path.remove(str(EXAMPLE.parent))


@pytest.fixture(scope="module")
def replay(example):
    """The half of it that finds out what is alive."""
    return sys.modules["memray_alive"]


@pytest.fixture
def write(tmp_path):
    """Make a program; its path."""

    def made(text):
        path = tmp_path / "program.py"
        path.write_text(text)
        return path

    return made


@contextlib.contextmanager
def standing_still(example, tmp_path, options, *command):
    """Run a program until it stands still at its end; gives its pid and its capture file."""
    capture = str(tmp_path / "capture")
    with open(tmp_path / "told", "wb") as out:
        process = subprocess.Popen(
            [sys.executable, example.PROGRAM_HALF, capture, options, *map(str, command)],
            stdout=out,
            env=ENVIRONMENT,
        )
    try:
        event = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert event.si_code == os.CLD_STOPPED
        yield process.pid, capture
    finally:
        process.kill()
        process.wait()


def expected(told):
    """(allocated, resident, swapped) of each function as its program told, page by page."""
    answer = {}
    for line in told.splitlines():
        where, start, size, touched, paged = json.loads(line)
        out = {page for a, b in paged for page in range(a // PAGE, -(-b // PAGE))}
        present = {page for a, b in touched for page in range(a // PAGE, -(-b // PAGE))} - out
        row = answer.setdefault(where, [0, 0, 0])
        row[0] += size
        for column, pages in ((1, present), (2, out)):
            for page in pages:
                row[column] += min(start + size, (page + 1) * PAGE) - max(start, page * PAGE)
    return answer


def compare(example, tmp_path, options, program, *arguments):
    """See that the example says of each function what the function did; returns its answer."""
    with standing_still(example, tmp_path, options, program, *arguments) as (pid, capture):
        report = example.report(pid, capture)
    answer = {}
    for site, *sizes in zip(report.sites, *report.sizes.values(), strict=True):
        if site.file in ("", str(program)):
            row = answer.setdefault(site.function, [0, 0, 0, 0])
            row[:] = [sum(pair) for pair in zip(row, map(int, sizes), strict=True)]
    for where, wanted in expected((tmp_path / "told").read_text()).items():
        # what else a function allocates is a few bytes; a page too many would be more
        excess = [a - b for a, b in zip(answer.get(where, (0, 0, 0)), wanted, strict=False)]
        assert all(0 <= each < PAGE // 2 for each in excess), (where, wanted, excess)
    return answer


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A shared library whose calls memray sees."""
    need(shutil.which("cc"), "a C compiler (cc)")
    path = tmp_path_factory.mktemp("library") / "library.so"
    command = ["cc", "-shared", "-fPIC", "-fno-builtin", "-pthread", "-o", path, "-xc", "-"]
    subprocess.run(command, input=LIBRARY, text=True, check=True)
    return path


def test_every_allocator(example, tmp_path, write, library):
    answer = compare(example, tmp_path, "exit", write(PREAMBLE + SPARE + ALLOCATORS), library)
    assert {where for where, row in answer.items() if row[3]} == {"shared"}
    assert answer["shared"][3] == 3 * MIB


@pytest.mark.root
@pytest.mark.usefixtures("any_swap")
def test_paged_out(example, tmp_path, write):
    answer = compare(example, tmp_path, "exit", write(PREAMBLE + SPARE + PAGED_OUT))
    assert answer["private"][2] == 4 * MIB
    assert answer["shared"][2:] == [2 * MIB, 2 * MIB]


def test_each_object_of_python(example, tmp_path, write):
    compare(example, tmp_path, "exit,python-allocators", write(PREAMBLE + OBJECTS), 5000)


def test_arenas_without(example, replay, tmp_path, write):
    """Without --python-allocators there are arenas, at the line that needed them."""
    program = write(PREAMBLE + OBJECTS)
    with standing_still(example, tmp_path, "exit", program, 20_000) as (_, capture):
        events, sites = replay.read(capture)
    live = replay.alive(events)
    at = [site.function == "objects" for site in map(sites.get, live["stack"].tolist())]
    arenas = np.isin(live["size"][at], [256 << 10, 1 << 20])  # before and since Python 3.10
    assert 1 <= arenas.sum() <= 20_000 // 1000
    assert live["size"][at][arenas].sum() >= MIB


# Against a slow twin.


def slow_alive(replay, events):
    """(stack, bytes) of what is alive, one event and one page after the other."""
    heap, pages = {}, {}
    for number, (start, size, allocator, stack) in enumerate(events.tolist()):
        whole = range(start // PAGE, -(-(start + size) // PAGE))
        if allocator in replay.FREES:
            heap.pop(start, None)
        elif allocator == replay.Allocator.MUNMAP:
            for page in whole:
                pages.pop(page, None)
        elif allocator == replay.Allocator.MMAP:
            for page in whole:
                length = min(start + size - page * PAGE, PAGE)
                pages[page] = (stack, number, length)
        else:
            heap[start] = (stack, size)
    sums = {}
    for stack, size in [*heap.values(), *((stack, size) for stack, _, size in pages.values())]:
        sums[stack] = sums.get(stack, 0) + size
    return sums


def random_events(replay, randomness, count):
    kinds = [kind.value for kind in replay.Allocator]
    events = []
    for number in range(count):
        kind = randomness.choice(kinds)
        in_pages = kind in (replay.Allocator.MMAP, replay.Allocator.MUNMAP)
        start = randomness.randrange(1, 40) * (PAGE if in_pages else 16)
        size = randomness.randrange(1, 12 * PAGE) if in_pages else randomness.randrange(1, 500)
        events.append((start, size, kind, number % 7))
    return np.array(events, replay.EVENT)


@pytest.mark.parametrize("seed", range(200))
def test_what_is_alive(replay, seed):
    randomness = random.Random(seed)
    events = random_events(replay, randomness, randomness.choice([0, 1, 5, 60, 300]))
    live = replay.alive(events)
    sums = {}
    for stack, size in zip(live["stack"].tolist(), live["size"].tolist(), strict=True):
        sums[stack] = sums.get(stack, 0) + size
    assert sums == slow_alive(replay, events)


# As it is used.


# Memray writes this where the interpreter is linked to fixed addresses, as Debian's is.
MEMRAYS_OWN = re.compile(
    r"^Memray WARNING: Correcting symbol for \w+ from 0x[0-9a-f]+ to 0x[0-9a-f]+\n", re.MULTILINE
)


def run(*arguments, **options):
    """Run the example to its end; in `stderr` is what it says, without what memray itself says."""
    need(importlib.util.find_spec("memray"), "memray")
    done = subprocess.run(
        [sys.executable, EXAMPLE, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=ENVIRONMENT | {"PYTHONIOENCODING": "utf-8"},
        **options,
    )
    done.stderr = MEMRAYS_OWN.sub("", done.stderr)
    return done


def row_of(done, source):
    """The cells of the line with this source, of a table that was printed."""
    line = next(line for line in done.stdout.splitlines() if source in line)
    return [cell.strip() for cell in line.strip("│").split("│")]


@pytest.mark.root
@pytest.mark.usefixtures("any_swap")
def test_the_shop():
    """The program to try it on: what is said of it when it is shown is so."""
    done = run(EXAMPLE.parent / "shop.py")
    assert row_of(done, "prices = np.zeros")[0] == "4Gi"
    assert row_of(done, "archive = mmap")[0] == "256Mi"
    assert row_of(done, "baskets = mmap")[:4] == ["64Mi", "8Mi", "0", "8Mi"]
    resident, swapped = (in_mib(cell) for cell in row_of(done, "archive = mmap")[1:3])
    assert abs(resident + swapped - 192) < 1
    assert swapped > 32
    assert in_mib(row_of(done, "buffer = np.empty")[1]) < 4


def in_mib(text):
    """A printed size in mebibytes."""
    units = {"Ki": 1 / 1024, "Mi": 1, "Gi": 1024}
    return float(text[:-2]) * units[text[-2:]] if text[-2:] in units else float(text) / MIB


LINE = "array = np.zeros(1 << 30, np.uint8)  # a gibibyte"
PROGRAM = f"""import os, signal, sys
import numpy as np
{LINE}
array[: 64 << 20] = 1
"""


def test_table(write):
    done = run(write(PROGRAM + "print(sys.argv)"), "--at", "-x")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"['{write(PROGRAM)}', '--at', '-x']")
    assert row_of(done, LINE)[:4] == ["1Gi", "64Mi", "0", "0"]


def test_module(tmp_path, write):
    write(PROGRAM + "print(sys.argv[1:], __name__)")
    done = run("--limit", 2, "-m", "program", "a", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("['a'] __main__")
    cells = row_of(done, LINE)
    assert cells[4] == "program.py:3 <module>"
    assert " more" in done.stdout


@pytest.mark.parametrize(
    ("ending", "code", "error"),
    [
        ("raise KeyError('no such thing')", 1, "KeyError: 'no such thing'"),
        ("sys.exit(7)", 7, ""),
        ("sys.exit('it is over')", 1, "it is over"),
    ],
)
def test_endings(write, ending, code, error):
    """However a program ends, there is a table, and its own exit code."""
    program = write(PROGRAM + ending)
    done = run(program)
    assert done.returncode == code
    assert row_of(done, LINE)[:2] == ["1Gi", "64Mi"]
    assert error in done.stderr
    assert "memray_program" not in done.stderr
    assert "runpy" not in done.stderr


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("os._exit(8)", 8),
        ("os._exit(0)", 1),
        ("os.kill(os.getpid(), signal.SIGKILL)", 128 + signal.SIGKILL),
        ("os.execv(sys.executable, [sys.executable, '-c', ''])", 1),
    ],
)
def test_gone_before(write, ending, code):
    done = run(write(PROGRAM + ending))
    assert done.returncode == code
    assert done.stderr == "memray_residency: the program ended before a table could be made\n"


def test_another_program(write):
    """Of what has called exec() memray knows nothing, and nothing is said."""
    then = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
    done = run(write(PROGRAM + f"os.execv(sys.executable, [sys.executable, '-c', {then!r}])"))
    assert done.returncode == 1
    assert "memray does not record it at this moment" in done.stderr
    assert not done.stdout


def test_moments_of_its_own(write):
    program = write(PROGRAM + "array[: 128 << 20] = 1\nos.kill(os.getpid(), signal.SIGSTOP)\n")
    done = run("--at", "SIGUSR1", program)
    assert done.returncode == 0
    assert row_of(done, LINE)[:2] == ["1Gi", "128Mi"]
    assert done.stdout.count("allocations alive") == 1


# A program that learns when it goes on after a table, however long that takes.
GOING_ON = """import signal, sys, time
tables = []
signal.signal(signal.SIGCONT, lambda *_: tables.append(1))
"""


def test_told_by_a_signal(write):
    asked = "os.kill(os.getppid(), signal.SIGUSR1)\nwhile len(tables) < {}: time.sleep(0.01)\n"
    done = run("--at", "SIGUSR1", write(GOING_ON + PROGRAM + asked.format(1) + asked.format(2)))
    assert done.returncode == 0
    assert done.stdout.count("allocations alive") == 2


def test_after_seconds(write, tmp_path):
    """Busy with small allocations: memray is caught in the midst of writing."""
    ready = tmp_path / "ready"
    busy = f"""
open({str(ready)!r}, "w").write(str(time.monotonic()))
end = time.monotonic() + 5  # where the table came before all else
while not tables and time.monotonic() < end: bytes(1000)
"""
    program = write(GOING_ON + PROGRAM + busy)
    for seconds in (2, 4, 8, 16):  # a busy machine needs longer to get as far as that
        began = time.monotonic()
        done = run("--at", seconds, program)
        if float(ready.read_text()) < began + seconds:
            break
    assert (done.returncode, done.stderr) == (0, "")
    assert row_of(done, LINE)[:2] == ["1Gi", "64Mi"]
    late = run("--at", "100", write(""))
    assert (late.returncode, late.stdout) == (1, "")
    assert "before a table" in late.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["/nowhere/program.py"], "no file /nowhere/program.py"),
        (["--at", "soon", "x.py"], "soon"),
        (["--at", "nan", "x.py"], "nan"),
        (["--at", "-1", "x.py"], "-1"),
        (["-m", "no_such_module"], "no_such_module"),
        (["-m", "json.no_such_module"], "json.no_such_module"),
        ([], "PROGRAM"),
    ],
)
def test_mistakes(arguments, word):
    done = run(*arguments)
    assert done.returncode in (1, 2)
    assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_syntax_error(write):
    done = run(write("x = (\n"))
    assert done.returncode == 1
    assert "SyntaxError" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_memray():
    code = f"""import runpy, sys
sys.modules["memray"] = None
sys.path[0] = {str(EXAMPLE.parent)!r}
runpy.run_path({str(EXAMPLE)!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "memray_residency: memray is not installed: pip install click memray rich\n"
    )


def test_killed_profiler(write, tmp_path):
    """Whoever runs the program may be killed: the program does not stand still for ever."""
    need(importlib.util.find_spec("memray"), "memray")
    program = write("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [sys.executable, EXAMPLE, program],
        stdout=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path)},  # where it leaves what it wrote
    )
    with process:
        pid = int(process.stdout.readline())
        process.kill()
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}/exe") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{pid}/exe")
