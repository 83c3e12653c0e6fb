"""Ask about another process, and go on if it does not answer.

A process can keep its memory locked, and whoever looks at it waits in the kernel: a call does not
return, and no signal handler runs. So a child asks. It is killed after a while, and never waited
for: the kernel may not let it go, either.

    python examples/given_up.py PID [SECONDS]
"""

import pickle
import subprocess
import sys

CHILD = """
import pickle, sys
import fastpagemap as fpm
try:
    with fpm.PageMap(int(sys.argv[1])) as pm:
        answer = pm.usage(fields=("size", "present", "swapped"))
except (OSError, MemoryError) as error:
    answer = error
pickle.dump(answer, sys.stdout.buffer)
"""


def usage_within(seconds, pid):
    """Return a process's usage; raise TimeoutError if there is no answer within so many seconds."""
    command = [sys.executable, "-c", CHILD, str(pid)]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        answer, _ = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.kill()  # not child.wait()
        child.stdout.close()
        raise TimeoutError(f"process {pid}: no answer within {seconds:g} s") from None
    if not answer:
        raise ChildProcessError(f"process {pid}: its reader ended by {child.returncode}")
    found = pickle.loads(answer)
    if isinstance(found, Exception):
        raise found
    return found


def main():
    """Print how much of a process is in RAM, and in swap."""
    try:
        pid, seconds = int(sys.argv[1]), float(sys.argv[2] if len(sys.argv) > 2 else 5)
    except (IndexError, ValueError):
        sys.exit("usage: python examples/given_up.py PID [SECONDS]")
    try:
        usage = usage_within(seconds, pid)
    except (OSError, MemoryError) as error:
        sys.exit(str(error))
    mib = {name: usage[name].sum() / (1 << 20) for name in ("present", "swapped")}
    print(f"process {pid}: {mib['present']:.1f} MiB in RAM, {mib['swapped']:.1f} MiB in swap")


if __name__ == "__main__":
    main()
