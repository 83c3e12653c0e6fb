"""What the kernel says of page frames, against reads of eight bytes."""

import os

import numpy as np
import pytest

import backed
import fastpagemap as fpm
import linux
import memory
import oracle_frames
import runas
from compare import while_still
from namespaces import in_own_mounts
from needs import Absent, need

CAP_DAC_READ_SEARCH = 2
FILES = {"flags": "kpageflags", "mapcounts": "kpagecount", "cgroups": "kpagecgroup"}
#: What of the flags nobody else changes meanwhile.
STEADY = fpm.KPF.ANON | fpm.KPF.MMAP | fpm.KPF.THP | fpm.KPF.COMPOUND_HEAD | fpm.KPF.COMPOUND_TAIL


@pytest.fixture
def frames():
    with fpm.Frames() as frames:
        yield frames


@pytest.mark.root
@pytest.mark.parametrize("question", FILES)
def test_any_order_and_number(frames, question):
    ask = getattr(frames, question)
    with (
        memory.touched(2000) as made,
        backed.memfd(1000) as file,
        backed.mapped(os.dup(file.fd), 1000) as again,
    ):
        made.lock()
        file.write().lock()
        again.write(step=2)
        pfns = [*oracle_frames.pfns(made.start, made.end), 2**62]
        pfns = np.array(pfns + oracle_frames.pfns(file.start, file.end), np.uint64)
        mixed = np.random.default_rng(3).permutation(pfns)
        orders = [pfns, pfns[::-1], mixed, np.sort(pfns), np.repeat(mixed, 3), pfns[::50], pfns[:1]]
        steady = int(STEADY) if question == "flags" else 2**64 - 1
        for order in orders:
            known = np.where(order < 2**55, order, 2**55)

            def wanted(known=known):
                return [it & steady for it in oracle_frames.values(FILES[question], known)]

            # the kernel moves locked pages, too, when it makes room for huge ones
            wants, found = while_still(lambda order=order: ask(order), wanted)
            assert found.dtype == (np.uint32 if question == "mapcounts" else np.uint64)
            assert (found.astype(np.uint64) & np.uint64(steady)).tolist() == wants


@pytest.mark.root
def test_shapes_and_out(frames):
    with memory.touched(12) as made:

        def look():
            pfns = np.array(oracle_frames.pfns(made.start, made.end), np.uint64).reshape(3, 4)
            assert frames.mapcounts(pfns).tolist() == [[1] * 4] * 3
            assert frames.mapcounts(int(pfns[0, 0])).shape == ()
            out = np.full((3, 4), 7, np.uint32)
            assert frames.mapcounts(pfns, out=out) is out
            assert (out == 1).all()
            # also over the numbers themselves
            wanted = frames.cgroups(pfns)
            assert frames.cgroups(pfns, out=pfns) is pfns
            assert (pfns == wanted).all()

        while_still(look, lambda: oracle_frames.pfns(made.start, made.end))
    assert frames.mapcounts([]).shape == (0,)
    for wrong in (np.zeros(12, np.uint32), np.zeros((3, 4), np.uint64), [0] * 12):
        with pytest.raises(ValueError, match="out is"):
            frames.mapcounts(np.arange(12).reshape(3, 4), out=wrong)


@pytest.mark.root
def test_what_is_no_frame(frames):
    beyond = [2**64 - 1, 2**63, 2**61, 2**55, 2**55 - 1, 2**40]
    for ask in (frames.flags, frames.mapcounts, frames.cgroups):
        assert ask(beyond).tolist() == [0] * len(beyond)
    assert frames.nodes(beyond).tolist() == [-1] * len(beyond)
    assert frames.flags(np.arange(2**20, dtype=np.int64)).any()
    for wrong in ([-1], [1.0], ["1"], np.ones(1), [2**64]):
        with pytest.raises(ValueError, match="frame number"):
            frames.flags(wrong)


@pytest.mark.root
def test_the_end_of_the_file(frames):
    """The last frame the kernel tells of, and those after it, in one read."""
    with oracle_frames.reader("kpageflags"), open("/proc/kpageflags", "rb") as file:
        low, high = 0, 1 << 40
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if os.pread(file.fileno(), 8, 8 * middle) else (low, middle)
    pfns = np.arange(low - 20, low + 20)
    # some of the last frames may be in use, and change
    wanted, found = while_still(
        lambda: frames.flags(pfns), lambda: oracle_frames.values("kpageflags", pfns)
    )
    assert found.tolist() == wanted
    assert wanted[20] == wanted[21] or wanted[21:] == [0] * 19


@pytest.mark.root
def test_the_cgroup_is_that_of_the_directory(frames):
    with open("/proc/self/cgroup") as file:
        groups = [line.rstrip("\n").split(":", 2) for line in file]
    v1 = [path for _, controllers, path in groups if "memory" in controllers.split(",")]
    v2 = [path for number, _, path in groups if number == "0"]
    places = [f"/sys/fs/cgroup/memory{path}" for path in v1] + [f"/sys/fs/cgroup{p}" for p in v2]
    need(places and os.path.isdir(places[0]), "this process's memory cgroup", Absent)
    with memory.touched(9) as made:
        _, found = while_still(
            lambda: frames.cgroups(oracle_frames.pfns(made.start, made.end)),
            lambda: oracle_frames.pfns(made.start, made.end),
        )
    assert set(found.tolist()) == {os.stat(places[0]).st_ino}


@pytest.mark.root
def test_closed():
    frames = fpm.Frames()
    assert repr(frames) == "<Frames: open>"
    before = len(os.listdir("/proc/self/fd"))
    frames.close()
    assert repr(frames) == "<Frames: closed>"
    frames.close()
    assert len(os.listdir("/proc/self/fd")) == before - 3
    for ask in (frames.flags, frames.mapcounts, frames.cgroups, frames.nodes, frames.file):
        with pytest.raises(ValueError, match="closed"):
            ask("kpageflags") if ask == frames.file else ask([0])
    with pytest.raises(ValueError, match="closed"), frames:
        pass


@pytest.mark.root
def test_who_may():
    with pytest.raises(PermissionError, match=r"CAP_DAC_READ_SEARCH.*CAP_SYS_ADMIN"):
        runas.as_nobody(fpm.Frames)
    with pytest.raises(PermissionError, match="CAP_DAC_READ_SEARCH"):
        runas.run_as(fpm.Frames, capabilities=[runas.CAP_SYS_ADMIN])
    ask = runas.run_as(lambda: fpm.Frames().flags([1]).tolist(), capabilities=[CAP_DAC_READ_SEARCH])
    assert len(ask) == 1
    assert (runas.as_nobody(fpm.capabilities).frames, fpm.capabilities().frames) == (False, True)


@pytest.mark.root
def test_a_proc_without_them():
    """As in containers that hide them: subset=pid; and as on a kernel without memory cgroups."""

    def ask():
        with memory.touched(3) as made, fpm.PageMap() as pm:
            linux.call("mount", b"proc", b"/proc", b"proc", 0, b"subset=pid")
            assert not fpm.capabilities().frames
            for question in (pm.mapcounts, pm.folios, lambda *_: fpm.Frames()):
                with pytest.raises(fpm.UnsupportedError, match="this /proc has no kpage"):
                    question(made.start, made.end)
            assert pm.nodes(made.start, made.end).min() >= 0

    in_own_mounts(ask)


@pytest.mark.root
@pytest.mark.parametrize("mask", ["/dev/null", "empty"])
def test_what_is_mounted_over_them(mask, tmp_path):
    """As containers do to hide a file: it can be opened, and reads as empty."""
    if mask == "empty":
        mask = tmp_path / "empty"
        mask.touch()

    def ask():
        for name in FILES.values():
            linux.call(
                "mount", os.fsencode(mask), f"/proc/{name}".encode(), None, linux.MS_BIND, None
            )
        assert not fpm.capabilities().frames
        with memory.touched(3) as made, fpm.PageMap() as pm:
            for question in (pm.mapcounts, pm.folios, lambda *_: fpm.Frames()):
                with pytest.raises(fpm.UnsupportedError, match="this /proc has no kpage"):
                    question(made.start, made.end)
        with fpm.Group([os.getpid()]) as group:
            assert group.total().dtype.names == ("rss", "pss", "swapped", "unknown")

    in_own_mounts(ask)


@pytest.mark.root
@pytest.mark.parametrize("question", [*FILES, "nodes"])
def test_more_numbers_than_fit(frames, question):
    """They are not looked at before that is known."""
    with pytest.raises(MemoryError):
        getattr(frames, question)(np.broadcast_to(np.int8(1), (1 << 50,)))


@pytest.mark.root
def test_whether_pages_are_counted():
    """Against the kernel's configuration where it shows that."""
    said = fpm.capabilities().page_mapcounts
    need(os.path.exists("/proc/config.gz"), "the kernel's configuration", Absent)
    import gzip

    with gzip.open("/proc/config.gz", "rt") as file:
        built = "CONFIG_NO_PAGE_MAPCOUNT=y" in file.read().splitlines()
    assert said == (not built)
