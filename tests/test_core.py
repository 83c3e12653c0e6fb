"""The C level, as a project sees it that is built against the installed package."""

import ctypes
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import fastpagemap as fpm
import kinds
import linux
import memory
import oracle
import runas
from compare import while_still
from fastpagemap import core
from linux import PAGE
from needs import Absent, Missing, need
from victim import Victim

HERE = Path(__file__).parent
#: The questions by what they are called elsewhere.
QUESTIONS = {
    "present": "PRESENT",
    "swapped": "SWAP_ENTRY",
    "shared": "SHARED",
    "exclusive": "EXCLUSIVE",
    "soft_dirty": "SOFT_DIRTY",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Where tests/downstream is installed, built here and now."""
    for program, what in (("cc", "a C compiler"), ("c++", "a C++ compiler")):
        need(shutil.which(program), what)
    try:
        import Cython  # noqa: F401
        import setuptools  # noqa: F401
    except ImportError as error:
        raise Missing(f"{error.name}") from error
    source = tmp_path_factory.mktemp("downstream") / "source"
    shutil.copytree(HERE / "downstream", source, ignore=shutil.ignore_patterns("*.c", "build"))
    return installed(source)


def installed(source):
    """Where a project is installed, built by the tools that are here."""
    target = source.with_name("site")
    command = f"-m pip install -q --no-deps --no-build-isolation --target {target} {source}"
    done = subprocess.run([sys.executable, *command.split()], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture
def sampler(built, monkeypatch):
    monkeypatch.syspath_prepend(built)
    import sampler

    return sampler


def test_the_project_downstream_agrees(built):
    """From Cython and from C++, in an interpreter of its own."""
    environment = os.environ | {"PYTHONPATH": str(built)}
    done = subprocess.run(
        [sys.executable, "-m", "check"], env=environment, cwd="/", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "all agree" in done.stdout


def test_the_sampler_in_the_docs(built, tmp_path):
    """As it is written there, and nothing else."""
    text = (HERE.parent / "docs/embedding.md").read_text()
    project = tmp_path / "project"
    project.mkdir()
    for language, name in (("cython", "sampler.pyx"), ("toml", "pyproject.toml")):
        (code,) = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
        (project / name).write_text(code)
    (code,) = re.findall(r"```python\n(# setup.py\n.*?)```", text, re.DOTALL)
    (project / "setup.py").write_text(code)
    program = (
        "import numpy as np, sampler, fastpagemap as fpm\n"
        "start, end = fpm.span(array := np.ones(100_000))\n"
        "pages, present = (end - start) // fpm.PAGE_SIZE, np.zeros(3, np.int64)\n"
        "sampler.sample(start, pages, present, 1000)\n"
        "assert (present == pages).all(), present"
    )
    environment = os.environ | {"PYTHONPATH": str(installed(project))}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd="/", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def declared():
    """What core.pxd declares, without comments, and what the compiled module offers."""
    text = Path(core.__file__).with_name("core.pxd").read_text()
    text = re.sub(r'""".*?"""', "", text, flags=re.DOTALL)
    lines = [re.sub(r"\s*#.*", "", line).rstrip() for line in text.splitlines()]
    name_of = ctypes.pythonapi.PyCapsule_GetName
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    offered = [f"{name}: {name_of(it).decode()}" for name, it in sorted(core.__pyx_capi__.items())]
    header = Path(core.__file__).with_name("fastpagemap.h").read_text()
    header = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    code = [line.rstrip() for line in header.splitlines()]
    return "\n".join([*filter(None, lines), *offered, *filter(None, code)]) + "\n"


def test_nothing_promised_has_changed():
    """To add to it, add to core_abi.txt; what is there is there to stay."""
    assert declared() == (HERE / "core_abi.txt").read_text()


@pytest.mark.parametrize("kind", ["touched", "sparse", "zero", "huge", "guarded", "memfd"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_against_a_slow_twin(sampler, kind, question):
    pages = 2 * memory.huge_page_pages() if kind == "huge" else 1500
    number, files = getattr(sampler, QUESTIONS[question]), sampler.Files()
    with kinds.ALL[kind](pages) as made:
        if question == "soft_dirty" and not fpm.capabilities().soft_dirty:
            with pytest.raises(OSError, match="not supported") as caught:
                sampler.mask(files, made.start, np.zeros(pages, np.uint8), number)
            assert caught.value.errno == errno.EOPNOTSUPP
            return

        def ask():
            entries, masks = np.zeros(pages, np.uint64), np.full((2, pages), 7, np.uint8)
            return [
                sampler.entries(files, made.start, entries),
                sampler.decode(entries, number, masks[0]),
                sampler.mask(files, made.start, masks[1], number),
                *(sampler.count(files, made.start, pages, number, *how) for how in ((), (False,))),
                entries.tolist(),
                *masks.tolist(),
            ]

        # the kernel moves pages to other frames when it makes room for huge ones
        words, said = while_still(ask, lambda: oracle.words(made.start, made.end))
    wanted = [int(oracle.TWINS[question](word)) for word in words]
    assert said == [pages, *[sum(wanted)] * 4, words, wanted, wanted]


def test_the_huge_zero_page_is_not_shared(sampler):
    """In any part, beside pages that are; entries alone do not tell that before Linux 7.3."""
    need(fpm.capabilities().scan, "PAGEMAP_SCAN (Linux 6.7)", Absent)
    files, each = sampler.Files(), memory.huge_page_pages()
    with memory.huge_zero(4 * each) as made:
        made.write(each, each + 1)
        for first, last in ((0, 4 * each), (0, each), (1, each), (each - 1, 3 * each + 1)):
            count = last - first
            mask = np.full(count, 7, np.uint8)
            assert sampler.mask(files, made.at(first), mask, sampler.SHARED) == 0
            assert not mask.any()
            assert sampler.count(files, made.at(first), count, sampler.SHARED) == 0
            assert sampler.count(files, made.at(first), count, sampler.PRESENT) == count


@pytest.mark.root
def test_swap_entries(sampler, any_swap):
    """In the page table alone: shared memory has none."""
    files = sampler.Files()
    with memory.touched(900) as made, kinds.ALL["memfd"](900) as shared:
        for each in (made, shared):
            each.advise(linux.MADV_PAGEOUT)
        with fpm.PageMap() as pm:
            mine, theirs = (pm.swapped(each.start, each.end).sum() for each in (made, shared))
        assert mine
        assert theirs
        assert sampler.count(files, made.start, 900, sampler.SWAP_ENTRY) == mine
        assert sampler.count(files, shared.start, 900, sampler.SWAP_ENTRY) == 0


def test_of_a_whole_address_space(sampler):
    """What is not mapped, or mapped and never walked, is not present, however it is asked."""
    files = sampler.Files()
    with fpm.PageMap() as pm:
        mappings = [m for m in pm.mappings() if m.end < 1 << 63]
    for mapping in mappings:
        before = oracle.many_words(mapping.start, mapping.end)
        got = sampler.count(files, mapping.start, mapping.pages, sampler.PRESENT)
        wanted = (np.frombuffer(before, np.uint64) >> np.uint64(63)).sum()
        if mapping.path.startswith("[v") or not mapping.writable:
            assert got == wanted, mapping
    last = mappings[-1].end
    assert sampler.count(files, last, 5000, sampler.PRESENT) == 0
    assert sampler.count(files, 1 << 63, 5000, sampler.PRESENT) == 0


@pytest.mark.parametrize("capacity", [1, 2, 7, 64])
def test_regions_a_few_at_a_time(sampler, capacity):
    need(fpm.capabilities().scan, "PAGEMAP_SCAN (Linux 6.7)", Absent)
    files = sampler.Files()
    with memory.sparse(2000) as made:
        made.write(500, 900)
        with fpm.PageMap() as pm:
            wanted = pm.regions(
                made.start, made.end, anyof=fpm.Category.PRESENT, returns=fpm.Category.PRESENT
            )
        found = sampler.regions(files, made.start, made.end, fpm.Category.PRESENT, capacity)
    # what goes on in the next call is told in two pieces
    joined = []
    for start, end, categories in found:
        if joined and joined[-1][1:] == (start, categories):
            joined[-1] = (joined[-1][0], end, categories)
        else:
            joined.append((start, end, categories))
    assert joined == wanted.tolist()


def test_bad_input(sampler):
    files, mask = sampler.Files(), np.zeros(4, np.uint8)
    for start, count, question in (
        (PAGE + 1, 4, 0),
        (PAGE, 4, -1),
        (PAGE, 4, 5),
        (2**64 - PAGE, 4, 0),
        (PAGE, 2**63, 0),
    ):
        with pytest.raises(OSError, match="Invalid argument"):
            sampler.count(files, start, count, question)
    for start, end in ((PAGE, 3 * PAGE + 1), (PAGE + 1, 3 * PAGE)):
        with pytest.raises(OSError, match="Invalid argument"):
            sampler.regions(files, start, end, 8, 4)
    with pytest.raises(OSError, match="Invalid argument"):
        sampler.entries(files, 3, np.zeros(2, np.uint64))
    with pytest.raises(OSError, match="Invalid argument"):
        sampler.decode(np.zeros(4, np.uint64), 77, mask)
    with Victim() as victim:
        span = victim.make("touched", 600)
        files = sampler.Files(victim.pid)
        assert sampler.count(files, span.start, 600, sampler.PRESENT) == 600
        victim.exec()
        for question in (sampler.PRESENT, sampler.EXCLUSIVE):
            with pytest.raises(ProcessLookupError):
                sampler.count(files, span.start, 600, question)


def test_a_child_opens_its_own(sampler):
    """As it is written: an inherited descriptor shows the parent."""
    files = sampler.Files()
    with memory.untouched(600) as made:

        def child():
            made.write()
            return [
                sampler.count(which, made.start, 600, sampler.PRESENT)
                for which in (files, sampler.Files())
            ]

        assert runas.in_child(child) == [0, 600]


def test_from_eight_threads(sampler):
    files = sampler.Files()
    with memory.sparse(30_000) as made:
        answers = []

        def ask(number):
            mask = np.zeros(30_000, np.uint8)
            answers.extend(sampler.mask(files, made.start, mask, number) for _ in range(10))

        threads = [threading.Thread(target=ask, args=(0,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [10_000] * 80


def test_in_a_signal_handler(sampler):
    """A thousand times a second, wherever the program is interrupted."""
    files = sampler.Files()
    before = signal.getsignal(signal.SIGPROF)
    totals = []
    with memory.sparse(3000) as made:
        # the kernel looks at this clock only at its ticks, of which there are at least 100 a second
        end = time.process_time() + 0.5
        try:
            sampler.start_profile(files, made.start, 3000, 1000)
            while time.process_time() < end:
                totals.append(sum(len(str(i)) for i in range(100_000)))
        finally:
            samples, last = sampler.stop_profile()
            signal.signal(signal.SIGPROF, before)
    assert set(totals) == {488_890}
    assert samples > 10
    assert last == 1000
