"""Where /proc shows what is this process's own."""

__all__ = ["own_file"]


def own_file(name: str) -> str:
    """Return the path in /proc of a file about this process: ``maps``, ``fd/3``, ``mountinfo``.

    It is of the thread that asks. /proc/self is of the main thread: once that has ended, while
    others go on, it shows no memory, descriptors, mounts or namespaces. And a thread may have
    descriptors and mounts that the main thread has not.
    """
    return f"/proc/thread-self/{name}"
