"""How much memory a result may use."""

__all__ = ["affordable"]


def affordable(count: int, itemsize: int) -> None:
    """Raise MemoryError if a result would not fit into the memory that is free now.

    The kernel grants a large array at once, but not its pages: if they run out while it is filled,
    the kernel kills a process.
    """
    size = count * itemsize
    if size < 1 << 26:
        return
    with open("/proc/meminfo", "rb") as file:
        available = next(int(line.split()[1]) for line in file if line.startswith(b"MemAvailable"))
    if size > available << 10:
        raise MemoryError(
            f"{count} pages need {size >> 20} MiB, {available >> 10} MiB are available: "
            "ask for parts of the span, or mapping by mapping"
        )
