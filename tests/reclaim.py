"""Memory sent into swap that no mapping shows: by its control group (root)."""

import contextlib
import os

import linux
from needs import Absent, need

_V1, _V2 = "/sys/fs/cgroup/memory", "/sys/fs/cgroup"


@contextlib.contextmanager
def group():
    """A control group of this process's own, for good; gives a function that reclaims its memory.

    To be called in a child that ends after it.
    """
    old = os.path.isdir(_V1)
    path = f"{_V1 if old else _V2}/fastpagemap-{os.getpid()}"
    name, amount = ("memory.force_empty", "1") if old else ("memory.reclaim", "64M")
    try:
        os.mkdir(path)
    except OSError:
        raise Absent("a control group of memory") from None
    try:
        need(os.path.exists(f"{path}/{name}"), f"a control group's {name}", Absent)
        linux.write_text(f"{path}/cgroup.procs", os.getpid())

        def reclaim():
            # Once is not enough for pages that were just used. It may say that some stayed.
            for _ in range(5):
                with contextlib.suppress(OSError):
                    linux.write_text(f"{path}/{name}", amount)

        yield reclaim
    finally:
        linux.write_text(f"{_V1 if old else _V2}/cgroup.procs", os.getpid())
        os.rmdir(path)
