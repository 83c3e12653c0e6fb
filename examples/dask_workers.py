"""What the workers of dask have in RAM together, beside the sum of RSS that dask shows.

    python examples/dask_workers.py [MiB]     # as root: counting pages once needs CAP_SYS_ADMIN

Each worker maps the same libraries, and here the same file as well. Dask adds up what each has
mapped, so a page that four workers map counts four times.

`HostMemory` is for any cluster: `client.register_plugin(HostMemory())`. The workers ask no one but
the scheduler, for each other's process ids; one on each host counts for all that are there.
"""

import asyncio
import os
import sys
import tempfile
import time

import numpy as np
from distributed import Client, LocalCluster, WorkerPlugin

import fastpagemap as fpm

WORKERS = 4
MIB = 1 << 20


class HostMemory(WorkerPlugin):
    """Adds to the metrics of a worker its `pid`; to those of one on each host, `host_memory`."""

    name = "host-memory"

    def __init__(self, seconds=5):
        self.seconds = seconds
        self.before = None

    def setup(self, worker):
        """Have dask send the metrics with each heartbeat."""
        self.last = -self.seconds
        worker.metrics["pid"] = lambda worker: os.getpid()
        worker.metrics["host_memory"] = self.measure

    async def measure(self, worker):
        """Return what all workers of this host have together, in bytes; None of all but one."""
        if time.monotonic() < self.last + self.seconds:
            return self.before
        workers = (await worker.scheduler.identity(n_workers=-1))["workers"]
        host = workers.get(worker.address, {}).get("host")
        here = {each: info for each, info in workers.items() if info["host"] == host}
        pids = [info["metrics"]["pid"] for info in here.values() if "pid" in info["metrics"]]
        if worker.address != min(here, default="") or len(pids) < len(here):
            return None
        self.last = time.monotonic()
        self.before = await asyncio.to_thread(together, pids)
        return self.before


def together(pids):
    """Return the sums of processes by name; those that need frames are absent without root."""
    with fpm.Group(pids) as group:
        total = group.total()
        return {name: int(total[name]) for name in total.dtype.names} | {"workers": len(pids)}


def read(path, dask_worker):
    """Map a file, read all of it and keep it mapped."""
    dask_worker.kept = np.load(path, mmap_mode="r")
    dask_worker.kept.sum()


def measured(client):
    """Wait until a look at all workers has come; return it, and the sum that dask shows."""
    began = time.time()
    for _ in range(300):
        time.sleep(0.2)
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        # what a worker tells of its RSS may be half a second old
        if min(info["last_seen"] for info in workers) < began + 1:
            continue
        metrics = [info["metrics"] for info in workers]
        found = [each["host_memory"] for each in metrics if each.get("host_memory")]
        if found and found[0]["workers"] == len(workers):
            return sum(each["memory"] for each in metrics), found[0]
    raise TimeoutError("no worker has told of its host")


def main():
    """Have four workers map one file, and show what both count."""
    size = int(sys.argv[1]) * MIB if sys.argv[1:] else 256 * MIB
    with (
        tempfile.TemporaryDirectory() as directory,
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        path = f"{directory}/data.npy"
        np.save(path, np.ones(size // 8))
        client.run(read, path)
        client.register_plugin(HostMemory())
        shown, found = measured(client)
    print(f"dask shows    {shown / MIB:7.0f} MiB, the RSS of {WORKERS} workers added up")
    for name, text in WORDS.items():
        if name in found:
            print(f"{name:13} {found[name] / MIB:7.0f} MiB, {text}")
    if "union" not in found:
        print("to count each page once, run it as root")


WORDS = {
    "rss": "the same, as fastpagemap adds it up",
    "pss": "the same, each page divided by how many map it",
    "union": "what they have in RAM, each page once",
    "unique": "what of it nobody else maps: free once they have ended",
    "swapped_union": "what they have in swap, each place once",
}


if __name__ == "__main__":
    main()
