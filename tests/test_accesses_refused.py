"""Accesses: what is not tracked is refused with the reason, and one tracker excludes another."""

import errno
import mmap
import os
import signal
import tempfile

import pytest

import backed
import fastpagemap as fpm
import hugetlb
import linux
import memory
import runas
import seccomp
from linux import PAGE
from needs import Absent, need
from tracked import PAGES, accessed, mask, numbers, pages_of, protected

IOCTL = {"x86_64": 16, "aarch64": 29}[os.uname().machine]
REGISTER, RWPROTECT, SCAN = 0xC020AA00, 0xC018AA09, 0xC0606610
ERRORS = [errno.EPERM, errno.EACCES, errno.ENOSYS]


def test_kernels_without_it():
    said = fpm.capabilities()
    need(not said.userfaultfd_rwp_async, "no userfaultfd RWP_ASYNC", Absent)
    assert "userfaultfd_rwp_async no: needs Linux 7.3" in str(said)
    with memory.touched(4) as made, pytest.raises(fpm.UnsupportedError, match="access-tracking"):
        fpm.AccessTracker(made.start, made.end)


@pytest.mark.usefixtures("_access_tracking")
@pytest.mark.parametrize("make", [backed.file_shared, backed.file_private, backed.sysv])
def test_memory_of_other_files(make):
    with make(20) as made, pytest.raises(fpm.UnsupportedError, match="does not track accesses"):
        fpm.AccessTracker(made.start, made.end)


@pytest.mark.usefixtures("_access_tracking")
def test_a_shared_mapping_that_may_not_be_written():
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        file.write(bytes(20 * PAGE))
        file.flush()
        fd = os.open(file.name, os.O_RDONLY)
        refused = pytest.raises(fpm.UnsupportedError, match="could be made writable")
        with memory.Memory(20, mmap.MAP_SHARED, memory.READ, fd) as made, refused:
            fpm.AccessTracker(made.start, made.end)


@pytest.mark.usefixtures("_access_tracking")
def test_spans_that_cannot_be_tracked():
    with memory.touched(20) as made:
        made.protect(memory.NONE, 3, 4)
        with pytest.raises(ValueError, match=r"may not be accessed \(---p\)"):
            fpm.AccessTracker(made.start, made.end)
        made.unmap(8, 10)
        with pytest.raises(ValueError, match=f"nothing is mapped at {made.at(8):#x}"):
            fpm.AccessTracker(made.at(5), made.end)
        with pytest.raises(ValueError, match="aligned"):
            fpm.AccessTracker(made.start + 1, made.end)
        assert not protected(made)
        with fpm.AccessTracker(made.start, made.start) as tracker:
            assert len(tracker.accessed()) == 0
        with fpm.AccessTracker(made.at(10), made.end) as tracker:
            with pytest.raises(ValueError, match="would lose accesses"):
                tracker.regions(reset=True, mask=fpm.Category.PRESENT)
            for copy in (tracker.__reduce__, lambda: fpm.AccessTracker(made.at(10), made.at(11))):
                with pytest.raises((TypeError, OSError)):
                    copy()
    with fpm.PageMap() as pm:
        for mapping in pm.mappings():
            if mapping.path.startswith(("[vdso]", "[vvar", "[vsyscall]")):
                with pytest.raises((fpm.UnsupportedError, ValueError)):
                    fpm.AccessTracker(mapping.start, mapping.end)


@pytest.mark.usefixtures("_access_tracking", "_write_tracking")
@pytest.mark.parametrize("first", [fpm.WriteTracker, fpm.AccessTracker])
@pytest.mark.parametrize("second", [fpm.WriteTracker, fpm.AccessTracker])
def test_one_tracker_excludes_another(first, second):
    """It is named, and goes on as before."""
    name = {fpm.WriteTracker: "a WriteTracker", fpm.AccessTracker: "an AccessTracker"}[first]
    with memory.touched(PAGES) as made, first(made.start, made.end) as tracker:
        made.write(7, 9)
        with pytest.raises(OSError, match=f"tracked already, by {name} or another") as caught:
            second(made.at(5), made.at(20))
        assert caught.value.errno == errno.EBUSY
        assert numbers(mask(tracker)) == [7, 8]
        tracker.close()
        with second(made.start, made.end) as other:
            made.write(3, 4)
            assert numbers(mask(other)) == [3]


@pytest.mark.root
@pytest.mark.usefixtures("_access_tracking")
def test_a_span_of_unlike_mappings():
    """Small pages, hugetlb pages and small pages of other rights, side by side."""
    size = linux.meminfo("Hugepagesize") // PAGE
    with hugetlb.hugetlb(2 * size) as made:
        made.map(memory.PRIVATE, first=0, last=size)
        made.write(0, size)
        made.protect(memory.READ, 10, 20)
        with fpm.AccessTracker(made.at(1), made.end) as tracker:
            for page in (5, 6, 7, 15, size + 9):
                made.read(page, page + 1)
            some = [4, 5, 6, 14, *range(size - 1, 2 * size - 1)]
            assert numbers(tracker.accessed()) == some
            assert numbers(tracker.accessed()) == []
            made.protect(memory.READ, 100, 101)
            made.read(99, 102)
            assert pages_of(tracker.regions(reset=True), made) == [99, 100, 101]
            assert numbers(tracker.accessed()) == []


@pytest.mark.usefixtures("_access_tracking")
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("what", [REGISTER, RWPROTECT, SCAN])
def test_refused_by_a_filter_of_system_calls(what, error):
    def before():
        with memory.touched(PAGES) as made:
            seccomp.refuse(IOCTL, error, what)
            with pytest.raises(fpm.UnsupportedError, match="seccomp"):
                fpm.AccessTracker(made.start, made.end)
            return protected(made)

    def while_it_tracks():
        with accessed(memory.touched) as (made, tracker):
            made.read(3, 5)
            seccomp.refuse(IOCTL, error, what)
            with pytest.raises(fpm.UnsupportedError, match="seccomp"):
                tracker.accessed()
            if what == RWPROTECT:
                assert numbers(tracker.accessed(reset=False)) == [3, 4]
            return False

    assert not runas.in_child(before)
    assert not runas.in_child(while_it_tracks)


@pytest.mark.usefixtures("_access_tracking")
def test_mappings_that_cannot_be_looked_up():
    """PROCMAP_QUERY is refused: a span in one mapping is tracked all the same."""

    def child():
        seccomp.without_procmap_query()
        with accessed(memory.touched) as (made, tracker):
            made.read(3, 5)
            assert numbers(tracker.accessed()) == [3, 4]
            assert numbers(tracker.accessed()) == []
            made.map(memory.PRIVATE)
            with pytest.raises(OSError, match="not tracked any more"):
                tracker.accessed()
        return True

    assert runas.in_child(child)


@pytest.mark.usefixtures("_access_tracking")
@pytest.mark.parametrize("make", [memory.touched, backed.memfd, backed.memfd_private])
@pytest.mark.parametrize("way", ["lock", "populate", "guard"])
def test_the_kernel_comes_to_an_end(make, way):
    """Other protection makes it loop for ever in these, where pages were dropped before."""

    def child():
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)  # ends it even in the kernel's loop, as no handler has to run
        with accessed(make) as (made, tracker):
            made.drop(0, 100)
            if way == "lock":
                made.lock()
            elif way == "populate":
                made.advise(linux.MADV_POPULATE_WRITE)
            else:
                made.advise(linux.MADV_GUARD_INSTALL, 50, 60)
            return numbers(tracker.accessed())

    found = runas.in_child(child)
    assert found == list(range(50, 60) if way == "guard" else range(PAGES))
