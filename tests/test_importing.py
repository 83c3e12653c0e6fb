"""What `import fastpagemap` does: little, or one clear error where it cannot work."""

import importlib
import subprocess
import sys

import pytest

import fastpagemap as fpm


def python(program):
    """Run a program in a Python of its own, and return how it ended."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("sys.platform = 'darwin'", "needs Linux and its /proc/PID/pagemap: this is darwin"),
        ("sys.maxsize = 2**31 - 1", "needs a 64-bit Python: this one has 32 bits"),
    ],
)
def test_where_it_cannot_work_importing_it_says_so(change, said):
    """Before any extension module is looked for: there it would be a missing one."""
    done = python(
        f"import sys; {change}\n"
        "try: import fastpagemap\n"
        "except ImportError as error: print(error)\n"
        "print([name for name in sys.modules if name.startswith('fastpagemap')])"
    )
    assert done.stdout.splitlines() == [f"fastpagemap {said}", "[]"], done.stderr


def test_importing_it_imports_numpy_alone():
    """What every answer needs, while there is memory for it; a name is loaded at its first use."""
    done = python(
        "import sys, fastpagemap\nprint('numpy' in sys.modules)\n"
        "fastpagemap.PageMap\nprint('PageMap' in vars(fastpagemap))\n"
        "print('fastpagemap.tracking' in sys.modules)"
    )
    assert done.stdout.splitlines() == ["True", "True", "False"], done.stderr


def test_the_version_needs_no_numpy():
    done = python(
        "import sys, _fastpagemap_main\nsys.modules['numpy'] = None  # cannot be imported\n"
        "sys.argv = ['fastpagemap', '--version']\n_fastpagemap_main.main()"
    )
    said = f"fastpagemap, version {fpm.__version__}\n"
    assert (done.stdout, done.stderr, done.returncode) == (said, "", 0)


@pytest.mark.parametrize("where", [">&-", ">/dev/full"])
def test_a_version_that_cannot_be_printed(where):
    shell = f"exec '{sys.executable}' -m fastpagemap --version {where}"
    done = subprocess.run(["sh", "-c", shell], capture_output=True)
    usual = subprocess.run(["sh", "-c", shell.replace("--version", "--help")], capture_output=True)
    assert done.returncode == usual.returncode == 1
    assert (done.stdout, done.stderr) == (b"", usual.stderr)


def test_every_public_name_is_where_it_is_said_to_be():
    assert sorted(fpm._HOMES) == sorted(fpm.__all__)
    for name, home in fpm._HOMES.items():
        assert getattr(fpm, name) is getattr(importlib.import_module(f"fastpagemap.{home}"), name)
    with pytest.raises(AttributeError, match="has no attribute 'pagemaps'"):
        fpm.pagemaps  # noqa: B018


def test_a_name_can_be_imported_by_many_threads_at_once():
    done = python(
        "import threading, fastpagemap\n"
        "start = threading.Barrier(8); found = []\n"
        "def use(name): start.wait(); found.append(getattr(fastpagemap, name))\n"
        "names = ['PageMap', 'Group', 'WriteTracker', 'Snapshot'] * 2\n"
        "threads = [threading.Thread(target=use, args=(name,)) for name in names]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "print(len(found), len(set(found)))"
    )
    assert done.stdout == "8 4\n", done.stderr
