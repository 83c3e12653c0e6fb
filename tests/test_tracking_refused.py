"""Spans that the kernel does not track: each is refused with the reason."""

import contextlib
import ctypes
import errno
import mmap
import os

import pytest

import fastpagemap as fpm
import features
import linux
import memory
import runas
from linux import PAGE
from needs import Absent, need
from tracked import protected

pytestmark = pytest.mark.usefixtures("_write_tracking")


def test_special_memory():
    with fpm.PageMap() as pm:
        for mapping in pm.mappings():
            if mapping.path.startswith(("[vdso]", "[vvar", "[vsyscall]")):
                with pytest.raises(ValueError, match=r"no one writes there|nothing is mapped"):
                    fpm.WriteTracker(mapping.start, mapping.end)
        (stack,) = [m for m in pm.mappings() if m.path == "[stack]"]
    with fpm.WriteTracker(stack.start, stack.end) as tracker:
        assert tracker.written().any() in (True, False)
        assert tracker.written(reset=False).shape == (stack.pages,)


@pytest.mark.root
def test_the_memory_of_devices():
    """A ring of perf's: no struct page is behind it, and the kernel passes over it."""
    attributes = bytearray(128)
    # PERF_TYPE_SOFTWARE, PERF_ATTR_SIZE, PERF_COUNT_SW_DUMMY
    attributes[:12] = b"\1\0\0\0\x80\0\0\0\x09\0\0\0"
    try:
        number = {"x86_64": 298, "aarch64": 241}[os.uname().machine]
        fd = linux.syscall(number, (ctypes.c_char * 128).from_buffer(attributes), 0, -1, -1, 0)
        ring = mmap.mmap(fd, 2 * PAGE)
    except OSError as error:
        raise Absent("perf events") from error
    finally:
        if "fd" in locals():
            os.close(fd)
    with ring:
        start, end = fpm.span(ring)
        with fpm.PageMap() as pm:
            walked = len(pm.regions(start, end, returns=0))
        if walked and not features.is_before(6, 18):
            fpm.WriteTracker(start, end).close()
        else:
            reason = "may crash" if walked else "does not look at such pages"
            with pytest.raises(fpm.UnsupportedError, match=reason):
                fpm.WriteTracker(start, end)


def test_more_page_tables_than_memory():
    size = 1 << 46
    try:
        made = mmap.mmap(-1, size, flags=memory.PRIVATE | linux.MAP_NORESERVE)
    except OSError as error:
        raise Absent("64 TiB to reserve") from error
    with made, pytest.raises(MemoryError, match=r"MiB are available"):
        fpm.WriteTracker(*fpm.span(made))


def test_too_many_mappings():
    def child():
        limit = linux.read_int("/proc/sys/vm/max_map_count")
        need(limit <= 1 << 17, "a limit of mappings that can be reached")
        with memory.touched(64) as made:
            pages = limit
            base = linux.call(
                "mmap", 0, pages * PAGE, memory.READ, memory.PRIVATE | linux.MAP_NORESERVE, -1, 0
            )
            with contextlib.suppress(OSError):
                for at in range(base, base + pages * PAGE, 2 * PAGE):
                    linux.call("mprotect", at, PAGE, memory.NONE)
            with pytest.raises(OSError, match="max_map_count") as caught:
                fpm.WriteTracker(made.at(1), made.at(2))
            assert caught.value.errno == errno.ENOMEM
            linux.call("munmap", base, pages * PAGE)
            assert not protected(made)
            fpm.WriteTracker(made.at(1), made.at(2)).close()
        return True

    assert runas.in_child(child)
