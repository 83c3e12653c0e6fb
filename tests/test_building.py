"""What setup.py says where nothing can be built, and what it makes of a compiler's warnings."""

import email
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from needs import Absent, Missing, need

ROOT = Path(__file__).parent.parent
OLD_PYTHON = (
    "import collections as c; sys.version_info = c.namedtuple('V', 'major minor micro')(3, 10, 13)"
)


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
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs/fastpagemap.1", tmp_path / "docs")
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


def small(project, code):
    """Have one module in place of all, which take a minute to compile."""
    for module in [*project.rglob("*.pyx"), *project.rglob("*.pxd")]:
        module.unlink()
    (project / "src/fastpagemap/core.pyx").write_text(code)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("sys.platform = 'darwin'", "needs Linux and its /proc/PID/pagemap: this is darwin"),
        ("sys.maxsize = 2**31 - 1", "needs a 64-bit Python: this one has 32 bits"),
        (OLD_PYTHON, "needs Python 3.11 or newer: this is 3.10.13"),
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


def test_an_sdist_has_the_same_bytes_again(project):
    """Where SOURCE_DATE_EPOCH says what time its files are of, whatever they are of here."""
    made = []
    for mode in (0o600, 0o664):
        source = project / "src/fastpagemap/core.pxd"
        source.chmod(mode)
        os.utime(source, (mode, mode))
        done = setup(project, "-q", "sdist", SOURCE_DATE_EPOCH="1700000000")
        assert done.returncode == 0, done.stderr
        (file,) = (project / "dist").glob("*.tar.gz")
        made.append(file.read_bytes())
        file.unlink()
    assert made[0] == made[1]
    with tarfile.open(fileobj=io.BytesIO(made[0])) as archive:
        members = archive.getmembers()
    assert {(member.mtime, member.uid, member.uname) for member in members} == {(1700000000, 0, "")}
    names = {member.name.partition("/")[2] for member in members}
    assert {"src/fastpagemap/core.pyx", "src/_fastpagemap_main.py", "pyproject.toml"} <= names
    assert not [name for name in names if name.endswith((".so", ".c", ".pyc"))]


def test_what_is_released_is_built_at_the_time_of_its_commit():
    """The sdist, too: else nobody could build the same bytes again."""
    workflow = ROOT / ".github/workflows/release.yml"
    need(workflow.exists(), "the workflow of a release, which is in no sdist", Absent)
    jobs = re.split(r"\n  (?=\w+:\n)", workflow.read_text().partition("\njobs:")[2])
    building = [job for job in jobs if "actions/checkout" in job]
    assert [job.partition(":")[0] for job in building] == ["sdist", "wheels"]
    for job in building:
        said, builds = job.find("SOURCE_DATE_EPOCH="), re.search("run build|cibuildwheel@", job)
        assert 0 < said < builds.start()


def test_what_an_index_shows_has_full_addresses(project):
    """Its page has no files beside it; each file that is named is one of the project's."""
    done = setup(project, "-q", "egg_info")
    assert done.returncode == 0, done.stderr
    (made,) = (project / "src").glob("*.egg-info/PKG-INFO")
    message = email.message_from_string(made.read_text(encoding="utf-8"))
    assert message["Description-Content-Type"] == "text/markdown"
    shown = message.get_payload()
    links = re.findall(r"\]\(([^)]*)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    own = [link for link in links if "://" not in link]
    assert len(own) > 20
    for link in own:
        assert (ROOT / link).is_file()
        where = "raw.githubusercontent.com" if link.endswith(".png") else "github.com"
        way = "main" if link.endswith(".png") else "blob/main"
        assert f"](https://{where}/fastpagemap/fastpagemap/{way}/{link})" in shown
    assert not re.findall(r"\]\((?!https://)", shown)


def test_a_wheel_is_for_everyone_whoever_builds_it(project):
    """Also where a user's umask keeps new files from others; pip would not care, but others do."""
    need(shutil.which("cc"), "a C compiler")
    small(project, "answer = 42\n")
    done = setup(project, "-q", "bdist_wheel", change="import os; os.umask(0o077)")
    assert done.returncode == 0, done.stderr
    (made,) = (project / "dist").glob("*.whl")
    with zipfile.ZipFile(made) as archive:
        modes = {file.filename: file.external_attr >> 16 & 0o777 for file in archive.infolist()}
    assert len(modes) > 100
    assert {name for name, mode in modes.items() if mode & 0o044 != 0o044} == set()


def test_an_unknown_kind_of_build_is_refused(project):
    done = setup(project, "-q", "build_ext", FASTPAGEMAP_BUILD="fast")
    assert done.returncode == 1
    assert done.stderr == "FASTPAGEMAP_BUILD is 'fast': it may be debug, sanitize, or nothing\n"


def test_a_warning_is_an_error_only_where_that_is_asked_for(project):
    """As in CI: a compiler of the future must not refuse what an sdist holds."""
    need(shutil.which("cc"), "a C compiler")

    def build(code, strict):
        small(project, f"cdef extern from *:\n    '''\n    {code}\n    '''\n")
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
