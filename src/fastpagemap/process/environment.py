"""What this program runs in: versions, its privileges, a container, swap. For reports of faults."""

from __future__ import annotations

import os
import platform
import re
import sysconfig
from importlib.metadata import version

from .._kernel.descriptor import open_file
from .._kernel.failures import IgnoringFileErrors, exists
from .._kernel.lines import read_all
from .._kernel.own_files import own_file

__all__ = ["environment"]

# linux/capability.h: those that something here needs.
_CAPABILITIES = {
    2: "CAP_DAC_READ_SEARCH",
    19: "CAP_SYS_PTRACE",
    21: "CAP_SYS_ADMIN",
    40: "CAP_CHECKPOINT_RESTORE",
}
_EFFECTIVE = re.compile(rb"^CapEff:\s*([0-9a-f]+)", re.MULTILINE)
_SECCOMP = re.compile(rb"^Seccomp:\s*([12])", re.MULTILINE)
# Files that container managers leave.
_MARKS = {
    "/.dockerenv": "Docker",
    "/run/.containerenv": "Podman",
    "/run/systemd/container": "systemd",
    "/var/run/secrets/kubernetes.io": "Kubernetes",
}
# The machine's own namespaces: PROC_PID_INIT_INO and PROC_USER_INIT_INO of linux/proc_ns.h.
_OWN_NAMESPACES = {"pid": 0xEFFFFFFC, "user": 0xEFFFFFFD}
_CHOSEN = re.compile(r"\[(\w+)\]")


def environment() -> dict[str, str]:
    """Return what a report of a fault should say of the machine, in order: name to text."""
    free = " without the GIL" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    return {
        "fastpagemap": version("fastpagemap"),
        "python": f"{platform.python_implementation()} {platform.python_version()}{free}",
        "numpy": version("numpy"),
        "kernel": _kernel(),
        "system": _system(),
        "user": _user(),
        "container": _container(),
        "swap": _swap(),
        "huge pages": _huge_pages(),
    }


def _kernel() -> str:
    with IgnoringFileErrors():  # a sandbox may refuse even this
        kernel = os.uname()
        return f"Linux {kernel.release}, {kernel.machine}"
    return "unknown"


def _system() -> str:
    with IgnoringFileErrors():
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    return "unknown"


def _user() -> str:
    """Return the effective user id, and which capabilities that matter here it has."""
    found = _EFFECTIVE.search(_content(own_file("status")))
    if found is None:
        return f"{os.geteuid()}, capabilities unknown"
    bits = int(found[1], 16)
    names = [name for bit, name in _CAPABILITIES.items() if bits >> bit & 1]
    return f"{os.geteuid()}, {' '.join(names) or 'no capabilities'}"


def _container() -> str:
    """Return what shows that this is a container or a sandbox."""
    signs = [name for path, name in _MARKS.items() if exists(path)]
    for name, own in _OWN_NAMESPACES.items():
        with IgnoringFileErrors():
            if os.stat(own_file(f"ns/{name}")).st_ino != own:
                signs.append(f"a {name} namespace")
    if _SECCOMP.search(_content(own_file("status"))):
        signs.append("seccomp")
    return ", ".join(signs) or "none seen"


def _swap() -> str:
    """Return how many areas of which type there are, as /proc/swaps has them."""
    header, *areas = _content("/proc/swaps").splitlines() or [b""]
    if not header:
        return "unknown"
    types = ["zram" if b"/zram" in area.split()[0] else area.split()[1].decode() for area in areas]
    return " ".join(types) or "none"


def _huge_pages() -> str:
    """Return where the kernel makes transparent huge pages."""
    text = _content("/sys/kernel/mm/transparent_hugepage/enabled").decode("ascii", "replace")
    chosen = _CHOSEN.search(text)
    return chosen[1] if chosen else "unknown"


def _content(path: str) -> bytes:
    """Return the content of a file; nothing if it is not there, or forbidden."""
    with IgnoringFileErrors():
        file = open_file(path, os.O_RDONLY)
        return read_all(file.fd, path)
    return b""
