"""Debian's packages, fetched by an apt of our own: what is installed here is left as it is."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

# Where Debian keeps its kernels: 5.10 is bullseye's, 6.1 bookworm's, 6.12 trixie's; newer ones are
# in trixie-backports, which drops them again when still newer ones come.
SUITES = ["bullseye", "bookworm", "trixie"]
SUITES += [*(f"{suite}-security" for suite in SUITES), "trixie-backports"]
OF_SOURCES = "trixie"  # the suite of which there are sources, too
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "fastpagemap-kernels")
WEEK = 7 * 24 * 3600


class Failed(Exception):
    """A program failed, or something cannot be had on this machine; the message says why."""


def run(*command, **options):
    """Run a program and return what it prints; Failed, with its last words, if it fails."""
    answer = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if answer.returncode:
        said = answer.stderr.strip() or answer.stdout.strip() or f"exit {answer.returncode}"
        raise Failed(f"{command[0]}: {said.splitlines()[-1]}")
    return answer.stdout


def install(needed):
    """Have installed what has the programs that are lacking, of {program: packages} (root)."""
    lacking = [packages for program, packages in needed.items() if not shutil.which(program)]
    if not lacking:
        return
    if os.geteuid():
        raise Failed(f"not installed, and only root can: {' '.join(lacking)}")
    print(f"installing {' '.join(lacking)}", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    options = ["-y", "--no-install-recommends"]
    run("apt-get", "update")
    run("apt-get", "install", *options, *" ".join(lacking).split(), env=environment)


class Archive:
    """The packages that Debian has for one architecture, and those unpacked here already."""

    def __init__(self, cache, architecture, suites=SUITES):
        self.architecture = architecture
        self._suites = suites
        self.directory = Path(cache, architecture)
        self._state = self.directory / "apt"

    def kernel(self, version, flavour):
        """Unpack the newest kernel of a version; return its release and where it is."""
        pattern = rf"linux-image-{re.escape(version)}\.[0-9.]+([+-][^-]+)?-{flavour}"
        names = [path.name for path in self.directory.glob("linux-image-*")]
        if self._refresh():
            names += self._apt("apt-cache", "pkgnames", "linux-image-").split()
        names = [name for name in names if re.fullmatch(pattern, name)]
        if not names:
            raise Failed(f"Debian's mirror has no kernel {version} of the flavour {flavour}")
        package = max(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
        release = package.removeprefix("linux-image-")
        # Up to 6.x the one package has everything; since then it only depends on those that have.
        parts = {f"linux-{part}-{release}" for part in ("binary", "modules", "base")}
        return release, self.unpacked(package, [package], parts, _make_usual)

    def unpacked(self, name, packages, dependencies=frozenset(), finish=None):
        """Return the directory with the content of packages, and of these dependencies of theirs.

        What is there is taken as it is; a week later the lists, and so the names, are new ones.
        """
        target = self.directory / name
        if target.exists():
            return target
        if not self._refresh():
            raise Failed("no Debian mirror in this machine's apt sources, or out of reach")
        needed = self._apt("apt-cache", "depends", *packages).split()
        packages = [*packages, *sorted(dependencies.intersection(needed))]
        unfinished = self.directory / f"{name}.{os.getpid()}"
        archives = unfinished / "deb"
        archives.mkdir(parents=True)
        try:
            try:
                self._apt("apt-get", "download", *packages, cwd=archives)
            except Failed:  # there may be a newer version since the lists were fetched
                self._refresh(WEEK)
                self._apt("apt-get", "download", *packages, cwd=archives)
            for archive in archives.iterdir():
                run("dpkg-deb", "--extract", str(archive), str(unfinished))
            shutil.rmtree(archives)
            if finish:
                finish(unfinished)
            unfinished.rename(target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return target

    def source(self, package, directory):
        """Unpack a package's source, as its authors published it, into a directory."""
        if not self._refresh():
            raise Failed("no Debian mirror in this machine's apt sources, or out of reach")
        self._apt("apt-get", "source", "--download-only", package, cwd=directory)
        (archive,) = Path(directory).glob("*.orig.tar.*[!c]")  # .asc is its signature
        run("tar", "-x", "--strip-components=1", "-f", archive, "-C", directory)

    def _refresh(self, older=0):
        """Get lists of packages if there are none, or old ones; return whether there are any."""
        stamp, lists = self._state / "stamp", self._state / "lists"
        age = time.time() - stamp.stat().st_mtime if stamp.exists() else WEEK
        known, sources = self._state / "sources.list", _sources(self.architecture, self._suites)
        if known.exists() and known.read_text() != sources:
            age = WEEK
        if age + older >= WEEK or not any(lists.glob("*Packages*")):
            for directory in ("lists/partial", "cache/archives/partial"):
                (self._state / directory).mkdir(parents=True, exist_ok=True)
            (self._state / "status").touch()
            known.write_text(sources)
            try:
                self._apt("apt-get", "update", "--error-on=any")
            except Failed as problem:  # one suite may be gone: the others are there all the same
                print(f"apt-get update: {problem}", flush=True)
            stamp.touch()
        return any(lists.glob("*Packages*"))

    def _apt(self, program, *arguments, **options):
        """Run a program of apt with lists, cache and state of our own."""
        settings = {
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Sandbox::User": "",  # apt's own user cannot write here
            "Acquire::Languages": "none",
            "Dir::Etc::sourcelist": self._state / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State::lists": self._state / "lists",
            "Dir::State::status": self._state / "status",
            "Dir::Cache": self._state / "cache",
            "Dir::Cache::pkgcache": "packages.bin",  # Debian's container images turn these off
            "Dir::Cache::srcpkgcache": "sources.bin",
        }
        pairs = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        return run(program, "-q", *pairs, *arguments, **options)


def _sources(architecture, suites):
    """The lines of sources.list: from the mirrors that this machine itself uses."""
    known = run("apt-get", "indextargets", "--format", "$(REPO_URI)").split()
    lines = []
    for suite in suites:
        end = "/debian-security" if suite.endswith("-security") else "/debian"
        mirror = next((uri for uri in known if uri.rstrip("/").endswith(end)), None)
        if mirror:
            options = f"[arch={architecture} signed-by={KEYRING}]"
            lines.append(f"deb {options} {mirror} {suite} main\n")
            if suite.startswith(OF_SOURCES):
                lines.append(f"deb-src {options} {mirror} {suite} main\n")
    return "".join(lines)


def _make_usual(directory):
    """Give every unpacked kernel one layout: lib/modules, boot/vmlinuz-*, boot/config-*."""
    if not (directory / "lib").exists():
        (directory / "lib").symlink_to("usr/lib")
    (modules,) = (directory / "lib/modules").iterdir()
    (directory / "boot").mkdir(exist_ok=True)
    for name in ("vmlinuz", "config"):
        place = directory / f"boot/{name}-{modules.name}"
        if not place.exists():
            # relative: the directory is renamed when it is complete
            place.symlink_to(f"../lib/modules/{modules.name}/{name}")
    run("depmod", "--basedir", str(directory), modules.name)
