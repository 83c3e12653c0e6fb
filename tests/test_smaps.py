"""What smaps says of each mapping, against maps, and against the kernel's own sum of all."""

import mmap
import os

import pytest

import fastpagemap as fpm
from fastpagemap.process.process import Process
from fastpagemap.process.smaps import size_of, smaps, smaps_at
from linux import PAGE
from victim import Victim

NAMES = ("Size", "Rss", "Swap", "VmFlags")


def test_each_mapping_with_the_fields_asked_for():
    with Victim() as victim, fpm.PageMap(victim.pid) as pm:
        victim.make("sparse", 37)
        found = list(smaps(Process(victim.pid), *NAMES))
        # the last of them, [vsyscall], is in both
        assert [mapping for mapping, _ in found] == pm.mappings()
        with open(f"/proc/{victim.pid}/smaps_rollup", "rb") as file:
            sums = dict(line.split(b":", 1) for line in list(file)[1:])
    for mapping, fields in found:
        assert set(fields) == set(NAMES)
        assert size_of(fields["Size"]) == mapping.end - mapping.start
        assert (b"rd" in fields["VmFlags"].split()) == (mapping.permissions[0] == "r")
    for name in ("Rss", "Swap"):
        assert sum(size_of(fields[name]) for _, fields in found) == size_of(sums[name.encode()])


def test_a_name_is_the_whole_name_and_may_be_unknown():
    for _, fields in smaps(Process(), "Swa", "Pss", "NoSuchField"):
        assert set(fields) == {"Pss"}


def test_a_path_with_a_newline(tmp_path):
    r"""Smaps, as maps, shows it as \012, so that no path can look like a field."""
    path = tmp_path / "one\nSwap:           999 kB"
    path.write_bytes(bytes(PAGE))
    with open(path, "rb") as file, mmap.mmap(file.fileno(), PAGE, prot=mmap.PROT_READ):
        found = {mapping.path: fields for mapping, fields in smaps(Process(), "Swap")}
    assert found[os.fspath(path)] == {"Swap": b"0 kB"}


def test_of_one_address():
    with Victim() as victim:
        span, process = victim.make("sparse", 37), Process(victim.pid)
        at = span.start + PAGE
        assert size_of(smaps_at(process, at, "KernelPageSize")["KernelPageSize"]) == PAGE
        whole = dict(smaps(process, "Rss"))
        (rss,) = [fields for m, fields in whole.items() if m.start <= at < m.end]
        assert smaps_at(process, at, "Rss") == rss
        assert smaps_at(process, 0, "Rss") == {}


def test_what_is_no_size():
    assert size_of(b"12 kB") == 12288
    for text in (b"rd wr", b"12", b"12 MB", b""):
        with pytest.raises(ValueError, match=r"kB|literal|unpack"):
            size_of(text)
