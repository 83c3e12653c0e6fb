"""What setup.py says where nothing can be built, and what it makes of a compiler's warnings."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from needs import Missing, need

ROOT = Path(__file__).parent.parent


@pytest.fixture
def project(tmp_path):
    """A copy of what is built, with nothing built in it."""
    try:
        import Cython  # noqa: F401
        import setuptools  # noqa: F401
    except ImportError as error:
        raise Missing(f"{error.name}") from error
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, tmp_path)
    built = shutil.ignore_patterns("*.so", "*.c", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=built)
    return tmp_path


def setup(project, *command, change="", **environment):
    """Run setup.py after a change to the `sys` that it sees."""
    program = (
        f"import runpy, sys, setuptools.command.build_ext; {change}\n"
        f"sys.argv = ['setup.py', *{command!r}]; runpy.run_path('setup.py', run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=project,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("sys.platform = 'darwin'", "needs Linux and its /proc/PID/pagemap: this is darwin"),
        ("sys.maxsize = 2**31 - 1", "needs a 64-bit Python: this one has 32 bits"),
    ],
)
def test_where_it_cannot_work_the_build_says_so(project, change, said):
    """In one line, before anything is compiled; an sdist can be made anywhere."""
    done = setup(project, "build_ext", "--inplace", change=change, CC="false")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1:] == [f"fastpagemap {said}"]
    assert "Traceback" not in done.stderr
    assert not list(project.rglob("*.c"))
    done = setup(project, "-q", "sdist", change=change)
    assert done.returncode == 0, done.stderr
    assert len(list((project / "dist").glob("fastpagemap-*.tar.gz"))) == 1


def test_an_unknown_kind_of_build_is_refused(project):
    done = setup(project, "-q", "build_ext", FASTPAGEMAP_BUILD="fast")
    assert done.returncode == 1
    assert done.stderr == "FASTPAGEMAP_BUILD is 'fast': it may be debug, sanitize, or nothing\n"


def test_a_warning_is_an_error_only_where_that_is_asked_for(project):
    """As in CI: a compiler of the future must not refuse what an sdist holds."""
    need(shutil.which("cc"), "a C compiler")
    for module in [*project.rglob("*.pyx"), *project.rglob("*.pxd")]:
        module.unlink()  # those that are right take a minute to compile

    def build(code, strict):
        module = project / "src/fastpagemap/core.pyx"
        module.write_text(f"cdef extern from *:\n    '''\n    {code}\n    '''\n")
        return setup(project, "-q", "build_ext", "--inplace", FASTPAGEMAP_WERROR=strict)

    # what gcc 14 refuses, each compiler has to
    done = build("static inline int call(void) { return undeclared(); }", "")
    assert done.returncode != 0
    assert "undeclared" in done.stderr
    done = build("static int unused;", "1")
    assert done.returncode != 0
    assert "unused" in done.stderr
    done = build("static int unused;", "")
    assert done.returncode == 0, done.stderr
