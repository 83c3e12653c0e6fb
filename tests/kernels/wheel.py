"""The wheel as an index takes it, for another machine than this: built, repaired and unpacked."""

import importlib.metadata
import os
import shutil
import sys
import zipfile
from pathlib import Path

from debian import run

PROJECT = Path(__file__).resolve().parent.parent.parent


def copy_sources(project, *without):
    """Copy the project, but not what was made of it elsewhere, and not files of such names."""
    ignored = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info", *without)
    shutil.copytree(PROJECT, project, ignore=ignored)


def dependencies(directory, names, version, *platforms):
    """Return a directory with packages, of the versions that are used here, for another Python."""
    wanted = [f"{name}=={importlib.metadata.version(name)}" for name in names]
    target = directory / "-".join([f"wheels-{version}-{platforms[0]}", *wanted])
    if not target.exists():
        unfinished = target.with_name(target.name + ".new")
        command = f"-m pip install --quiet --no-compile --target {unfinished}".split()
        command += f"--only-binary :all: --python-version {version}".split()
        command += [word for platform in platforms for word in ("--platform", platform)]
        shutil.rmtree(unfinished, ignore_errors=True)
        run(sys.executable, *command, *wanted)
        unfinished.rename(target)
    return target


def build(project, platform, python, environment):
    """Build the wheel of a copy of the project with a command that is a Python; return its path."""
    made = project / "build/wheel"
    name = f"linux_{platform.partition('_')[2].split('_', 2)[2]}"
    options = ["-q", "bdist_wheel", "--dist-dir", made, "--plat-name", name]
    run(*python, *options, cwd=project, env=os.environ | environment)
    (wheel,) = made.glob("*.whl")
    repair = ["auditwheel", "repair", "--wheel-dir", project / "dist", wheel]
    run(sys.executable, "-m", *repair, cwd=project)
    (wheel,) = project.glob("dist/*.whl")
    return wheel


def unpack(wheel, site):
    """Do what pip does with a wheel that has no program and no data that are needed."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
