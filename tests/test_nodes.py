"""On which node pages are, against numa_maps."""

import contextlib
import ctypes
import errno
import os
import re
from collections import Counter

import pytest

import backed
import calls
import fastpagemap as fpm
import hugetlb
import linux
import memory
import oracle_frames
import runas
import seccomp
from linux import PAGE
from namespaces import in_own_mounts
from needs import Absent, need

SYSTEM = "/sys/devices/system"
MAKERS = {
    "touched": memory.touched,
    "sparse": memory.sparse,
    "huge": memory.huge,
    "memfd": backed.memfd,
    "shared_anonymous": backed.shared_anonymous,
    "hugetlb": hugetlb.hugetlb,
}


def numa_maps(made):
    """{node: pages} of a memory; what is in hugetlb is counted in whole huge pages."""
    told = Counter()
    with open("/proc/self/numa_maps") as file:
        lines = [line for line in file if made.start <= int(line.split()[0], 16) < made.end]
    need(lines, "numa_maps", Absent)
    for line in lines:
        size = re.search(r"kernelpagesize_kB=(\d+)", line)
        for node, number in re.findall(r" N(\d+)=(\d+)", line):
            told[int(node)] += int(number) * (int(size[1]) << 10) // PAGE
    return told


def check_nodes(made):
    """What PageMap says, after it was compared with numa_maps; and which pages are present."""
    with fpm.PageMap() as pm:
        before, found = None, pm.nodes(made.start, made.end)
        while before is None or (before != found).any():  # the kernel moves pages to who uses them
            told, before = numa_maps(made), found
            found = pm.nodes(made.start, made.end)
        there = pm.present(made.start, made.end)
    assert Counter(found[found >= 0].tolist()) == told
    return found, there


def two_nodes():
    """The first two nodes that have memory."""
    with contextlib.suppress(FileNotFoundError), open(f"{SYSTEM}/node/has_memory") as file:
        spans = [part.partition("-") for part in file.read().strip().split(",") if part]
        nodes = [n for a, _, b in spans for n in range(int(a), int(b or a) + 1)]
        need(len(nodes) > 1, "two memory nodes", Absent)
        return nodes[:2]
    raise Absent("two memory nodes")


def put(made, nodes, first=0, last=None, mode=linux.MPOL_BIND):
    """Move pages to nodes, and keep them there."""
    bits = ctypes.c_ulong(sum(1 << node for node in nodes))
    start, size = made.at(first), (made.pages if last is None else last) - first
    flags = linux.MPOL_MF_MOVE | linux.MPOL_MF_STRICT
    number = linux.MBIND[os.uname().machine]
    linux.syscall(number, start, size * PAGE, mode, ctypes.byref(bits), 64, flags)


@pytest.mark.parametrize("kind", ["touched", "sparse", "untouched", "huge"])
def test_nodes(kind):
    with getattr(memory, kind)(1500) as made:
        found, there = check_nodes(made)
        assert ((found >= 0) == there).all()


def test_a_zero_page_is_on_no_node():
    with memory.zero(100) as made:
        assert (check_nodes(made)[0] == -1).all()


@pytest.mark.root
def test_nodes_as_nobody_and_where_it_is_refused():
    def ask():
        with memory.touched(1200) as made:
            made.read()
            return check_nodes(made)[0].tolist()

    def refuse(error):
        with memory.zero(50) as zero, memory.sparse(2000) as made, fpm.PageMap() as pm:
            wanted = pm.nodes(made.start, made.end).tolist()
            seccomp.refuse(calls.number("move_pages"), error)
            assert pm.nodes(made.start, made.end).tolist() == wanted
            assert (pm.nodes(zero.start, zero.end) == -1).all()

    def refuse_nobody(error):
        with memory.touched(9) as made, fpm.PageMap() as pm:
            seccomp.refuse(calls.number("move_pages"), error)
            with pytest.raises(fpm.UnsupportedError, match="move_pages"):
                pm.nodes(made.start, made.end)

    assert min(runas.as_nobody(ask)) >= 0
    for error in (errno.EPERM, errno.ENOSYS):
        runas.in_child(refuse, error)
        runas.as_nobody(refuse_nobody, error)


@pytest.mark.root
def test_no_sys():
    def ask():
        linux.call("mount", b"none", b"/sys", b"tmpfs", 0, None)
        with fpm.Frames() as frames, pytest.raises(fpm.UnsupportedError, match="/sys"):
            frames.nodes([1])

    in_own_mounts(ask)


@pytest.mark.root
def test_frames_by_memory_blocks_and_by_zones():
    """Zones tell on a kernel without hotplug of memory, where there are no blocks."""

    def ask():
        with memory.Memory(600) as made, fpm.Frames() as frames, fpm.PageMap() as pm:
            with contextlib.suppress(Absent):
                put(made, two_nodes(), mode=linux.MPOL_INTERLEAVE)
            pfns = oracle_frames.pfns(made.write().start, made.end)
            wanted = pm.nodes(made.start, made.end)
            assert wanted.min() >= 0
            assert (frames.nodes(pfns) == wanted).all()
            linux.call("mount", b"none", f"{SYSTEM}/node".encode(), b"tmpfs", 0, None)
            linux.call("mount", b"none", f"{SYSTEM}/memory".encode(), b"tmpfs", 0, None)
            assert (frames.nodes(pfns) == wanted).all()
            seccomp.refuse(calls.number("move_pages"), errno.EPERM)
            assert (pm.nodes(made.start, made.end) == wanted).all()

    in_own_mounts(ask)


@pytest.mark.parametrize("kind", MAKERS)
def test_half_on_each_of_two_nodes(kind):
    one, other = two_nodes()
    with MAKERS[kind](1024) as made:
        half = made.pages // 2
        for left, right in ((one, other), (other, one)):
            put(made, [left], 0, half)
            put(made, [right], half)
            found, there = check_nodes(made)
            assert set(found[:half][there[:half]].tolist()) == {left}
            assert set(found[half:][there[half:]].tolist()) == {right}
            assert (found[~there] == -1).all()


def test_every_other_page_on_the_other_node():
    with memory.Memory(3000) as made:
        put(made, two_nodes(), mode=linux.MPOL_INTERLEAVE)
        found, _ = check_nodes(made.write())
    assert (found[::2] == found[0]).all()
    assert (found[1::2] == found[1]).all()
    assert found[0] != found[1]
