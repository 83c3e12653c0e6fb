"""Make one kind of memory after the other in a child process, and look at it from outside.

`make demo` runs this: the makers are the tests' own, so tests/ has to be on PYTHONPATH. As root it
makes swap for the while (zram, or a file where there is no zram) and takes it away again.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import NamedTuple

try:
    import oracle
    from needs import Missing
    from swap import any_swap
    from victim import Span, Victim, VictimError
except ModuleNotFoundError as error:
    sys.exit(f"demo: {error.name} not found; the tests' makers are needed: run 'make demo'")

import fastpagemap
from fastpagemap.cli import main as fastpagemap_command
from fastpagemap.report.tables import human

SIZE = 4 << 20
SWAP = 64 << 20
STOPS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


class Kind(NamedTuple):
    """One kind of memory: how tests/kinds.py calls it, and whether it is paged out afterwards."""

    label: str
    maker: str
    paged_out: bool = False


KINDS = (
    Kind("private, written", "touched"),
    Kind("private, swapped", "touched", paged_out=True),
    Kind("shared, written", "shared_anonymous"),
    Kind("shared, swapped", "shared_anonymous", paged_out=True),
    Kind("huge pages", "huge"),
    Kind("zero pages", "zero"),
    Kind("1/4 guard pages", "guarded"),
    Kind("never touched", "untouched"),
)
MASKS = ("present", "swapped", "unknown", "shared", "exclusive", "guard")


@contextlib.contextmanager
def laboratory(missing: list[str]) -> Iterator[tuple[Victim, list[tuple[Kind, Span]]]]:
    """Make swap, a child process and its memory; whatever happens, take all of it away again."""
    with contextlib.ExitStack() as undo:
        try:
            undo.enter_context(any_swap(SWAP))
            swap = ""
        except Missing as error:
            why = error if os.geteuid() == 0 else "root"
            swap = f"there is no swap on this machine, and making some needs {why}"
        victim = undo.enter_context(Victim())
        made = []
        for kind in KINDS:
            try:
                if kind.paged_out and swap:
                    raise Missing(swap)
                made.append((kind, make(victim, kind)))
            except (Missing, VictimError) as error:
                missing.append(f"{kind.label}: {str(error).strip().splitlines()[-1]}")
        yield victim, made


def make(victim: Victim, kind: Kind) -> Span:
    """Have the victim make one kind of memory."""
    span = victim.make(kind.maker, SIZE // fastpagemap.PAGE_SIZE)
    if kind.paged_out:
        victim.pageout(span)
    return span


def compare(victim: Victim, made: list[tuple[Kind, Span]]) -> Iterator[str]:
    """Yield a table: what was made, what fastpagemap says of it, what smaps says."""
    line = "{:16} {:12} {:36} {}".format
    yield line("what was made", "start", "fastpagemap", "smaps")
    smaps = oracle.smaps(victim.pid)
    with fastpagemap.PageMap(victim.pid) as pagemap:
        for kind, span in made:
            pages = pagemap.read(span.start, span.end)
            masks = {name: getattr(pages, name).sum() * fastpagemap.PAGE_SIZE for name in MASKS}
            inside = [value for (at, _), value in smaps.items() if span.start <= at < span.end]
            fields = {name: sum(value[name] for value in inside) for name in ("Rss", "Swap")}
            huge = " huge" if all(v["AnonHugePages"] == v["Size"] for v in inside) else ""
            yield line(kind.label, f"{span.start:x}", told(masks), told(fields) + huge)


def told(sizes: dict[str, int]) -> str:
    """Name all that is there: ``present 4Mi exclusive 4Mi``."""
    return " ".join(f"{name} {human(int(size))}" for name, size in sizes.items() if size) or "-"


class Stops:
    """SIGINT and its like: held back while something is half made, then obeyed, once."""

    def __init__(self) -> None:
        self._held = False
        self._number = 0
        for each in STOPS:
            signal.signal(each, self._stop)

    def _stop(self, number: int, frame: object) -> None:
        for each in STOPS:  # further ones would only cut the tidying short
            signal.signal(each, signal.SIG_IGN)
        self._number = number
        if not self._held:
            sys.exit(128 + number)

    def hold(self) -> None:
        """Hold them back from now on. The mask keeps them from cutting a system call short."""
        self._held = True
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)

    def release(self) -> None:
        """Let them through, the one that waits first."""
        self._held = False
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        if self._number:
            sys.exit(128 + self._number)


def demo() -> int:
    """Run the demo; the exit code is that of the report."""
    missing: list[str] = []
    stops = Stops()
    stops.hold()
    try:
        with laboratory(missing) as (victim, made):
            stops.release()
            try:
                print(f"$ fastpagemap report {victim.pid}", flush=True)
                code = fastpagemap_command(["report", str(victim.pid)])
                print(f"\nWhat was made in it, {human(SIZE)} of each kind:\n", flush=True)
                print("\n".join(compare(victim, made)))
            finally:
                stops.hold()
    finally:
        stops.release()
    print("\nsmaps leaves zero pages out of Rss; they are present all the same.")
    for line in missing:
        print(f"could not be made here: {line}")
    sys.stdout.flush()
    return code


if __name__ == "__main__":
    try:
        sys.exit(demo())
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
