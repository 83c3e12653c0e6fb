"""The kernel's page-types, built from Debian's kernel source; it is downloaded once."""

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

from lab import BUILD

_ROOM = BUILD / "page-types"
_WANTED = ("tools/vm", "tools/mm", "tools/lib/api", "tools/include", "include/uapi/linux")


@functools.cache
def page_types() -> Path | str:
    """Return the program, built now if it is not there yet, or why there is none to be had."""
    if os.geteuid() != 0:
        return "page-types is left out: it takes root"
    found = shutil.which("page-types")
    program = Path(found) if found else _ROOM / "page-types"
    if program.exists():
        return program
    try:
        _build(program)
    except (OSError, subprocess.CalledProcessError, LookupError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return f"page-types is left out, it could not be built: {said.strip().splitlines()[-1]}"
    return program


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, cwd=_ROOM, check=True, capture_output=True, text=True)
    return done.stdout


def _build(program: Path) -> None:
    """Download the package, unpack what is needed of it, compile that."""
    _ROOM.mkdir(parents=True, exist_ok=True)
    found = re.search(r"Depends: (linux-source-\S+)", _run("apt-cache", "depends", "linux-source"))
    if found is None:
        raise LookupError("no package linux-source: it is Debian's")
    if not list(_ROOM.glob("linux-source-*.deb")):
        _run("apt-get", "download", found[1])
    [package, *_] = sorted(_ROOM.glob("linux-source-*.deb"))
    _run("dpkg-deb", "--extract", package, _ROOM)
    [archive] = _ROOM.glob("usr/src/linux-source-*.tar.xz")
    # not every version has all of them: tar says so, and unpacks the others
    top = archive.name.removesuffix(".tar.xz")
    subprocess.run(
        ["tar", "-xJf", archive, *(f"{top}/{name}" for name in _WANTED)],
        cwd=_ROOM,
        stderr=subprocess.DEVNULL,
    )
    tools = _ROOM / top / "tools"
    api = tools / "lib" / "api"
    [source] = tools.glob("*m/page-types.c")
    sources = (source, api / "fs" / "fs.c", api / "debug.c")
    paths = ("lib", "include", "lib/api")
    include = [f"-I{tools / path}" for path in paths]
    _run(os.environ.get("CC") or "gcc", "-O2", "-w", *include, "-o", program, *sources)
    package.unlink()
    archive.unlink()


if __name__ == "__main__":
    print(page_types())
