"""A tracker against a set of page numbers: each use of one is told, once, whatever comes between.

One round is one memory, whose writes or accesses are tracked: it is used, dropped, protected,
forked and mapped anew, and asked about in every way, also in vain: exceptions come wherever a
signal's handler may run.
"""

import contextlib
import errno
import sys

import _torture  # isort: skip
import numpy as np

import fastpagemap as fpm
import memory
import runas
from interruption import interrupted
from linux import PAGE
from tracked import KINDS, USED, codes, mask

TRACKERS = [fpm.WriteTracker]
if fpm.capabilities().userfaultfd_rwp_async:
    TRACKERS.append(fpm.AccessTracker)
MAPPED = {"touched": memory.PRIVATE, "shared_anonymous": memory.SHARED}
#: What other processes do not share.
PRIVATE = ("touched", "untouched")
#: Points of a call at which a handler may run, at most.
POINTS = 16


class Round:
    """One memory, its tracker, and the pages that the next answer has to tell."""

    def __init__(self, chance, counts):
        self.chance, self.counts = chance, counts
        self.tracks = chance.choice(TRACKERS)
        self.accesses = self.tracks is fpm.AccessTracker
        # accesses to files are not tracked
        kinds = [name for name in KINDS if not (self.accesses and name.startswith("file"))]
        self.kind = chance.choice(kinds)
        self.pages = chance.choice((1, 7, 300, 3000))
        self.due = set()

    def some(self):
        """Random pages, often neighbours."""
        first = self.chance.randrange(self.pages)
        if self.chance.randrange(2):
            return range(first, min(self.pages, first + self.chance.randrange(1, 40)))
        return self.chance.sample(range(self.pages), min(self.pages, self.chance.randrange(1, 30)))

    def told(self, regions):
        """The pages of regions."""
        start = self.made.start
        found = [(int(r["start"]), int(r["end"])) for r in regions]
        return {p for a, b in found for p in range((a - start) // PAGE, (b - start) // PAGE)}

    def expect(self, found, what):
        """Compare an answer with the pages that are due."""
        if found != self.due:
            lost, more = sorted(self.due - found), sorted(found - self.due)
            raise AssertionError(f"{what}: lost {lost[:9]} of {len(self.due)}, untrue {more[:9]}")

    def write(self):
        for page in self.some():
            self.made.write(page, page + 1, value=self.chance.randrange(256))
            self.due.add(page)

    def read(self):
        if not self.accesses:
            return  # some kernels tell it of untouched memory
        for page in self.some():
            self.made.read(page, page + 1)
            self.due.add(page)

    def drop(self):
        if not self.accesses and self.kind not in PRIVATE:
            return  # this is not told
        first = self.chance.randrange(self.pages)
        last = self.chance.randrange(first, self.pages) + 1
        self.made.drop(first, last)
        if self.accesses:  # forgotten
            self.due -= set(range(first, last))
        else:
            self.due.update(range(first, last))

    def look(self):
        self.expect(set(np.flatnonzero(mask(self.tracker, reset=False)).tolist()), "a look")
        self.expect(self.told(self.tracker.regions()), "regions")

    def ask(self):
        """Ask with a reset; perhaps in vain."""
        way = self.chance.choice(("mask", "out", "regions"))
        out = np.ones(self.pages, bool) if way == "out" else None
        answering = codes(way, self.tracks)
        found = set()

        def call():
            if way == "regions":
                found.update(self.told(self.tracker.regions(reset=True)))
            else:
                found.update(np.flatnonzero(mask(self.tracker, out=out)).tolist())

        point = self.chance.randrange(2 * POINTS)  # half of them are beyond the end
        if interrupted(call, answering, point):
            self.counts["broken off"] += 1
            return
        self.expect(found, way)
        self.due.clear()

    def protect(self):
        page = self.chance.randrange(self.pages)
        rights = self.chance.choice((memory.READ, memory.NONE)) if self.accesses else memory.READ
        self.made.protect(rights, page, page + 1)
        self.look()
        self.made.protect(memory.READ_WRITE, page, page + 1)

    def fork(self):
        def child():
            self.made.write(0, self.pages)
            with contextlib.suppress(ValueError):
                mask(self.tracker)
            self.tracker.close()

        runas.in_child(child)
        # all of it has changed, which may be told
        if not self.accesses and self.kind not in PRIVATE:
            self.tracker.written()
            self.due.clear()

    def anew(self):
        """Map a part anew, and track it: the old tracker says so, and takes nothing."""
        if self.kind not in MAPPED:
            return
        first = self.chance.randrange(self.pages)
        last = self.chance.randrange(first, self.pages) + 1
        self.made.map(MAPPED[self.kind], first=first, last=last)
        self.due -= set(range(first, last))
        old, start = self.tracker, self.made.start
        tracked = self.chance.randrange(2)
        if tracked:
            self.tracker = self.tracks(self.made.at(first), self.made.at(last))
            self.made.write(first, first + 1)
        for ask in (lambda: mask(old), old.regions, lambda: old.regions(reset=True)):
            try:
                ask()
            except OSError as error:
                if error.errno != errno.EFAULT:
                    raise
            else:
                raise AssertionError("the old tracker answers")
        with fpm.PageMap() as pm:
            found = self.told(pm.regions(start, self.made.end, mask=USED[self.tracks], returns=0))
        self.expect(found - set(range(first, last)), "what is left of the old one")
        old.close()
        if tracked:
            told = np.flatnonzero(mask(self.tracker)).tolist()
            if told != [0]:
                raise AssertionError(f"the new tracker: {told[:9]}, not 0")
            self.tracker.close()
        self.track()

    def track(self):
        self.tracker = self.tracks(self.made.start, self.made.end)
        self.due.clear()

    def run(self):
        """Go through some random acts."""
        acts = {
            self.write: 10, self.read: 3, self.ask: 8, self.look: 2, self.drop: 2, self.protect: 1,
            self.fork: 0.3, self.anew: 0.5,
        }  # fmt: skip
        with KINDS[self.kind](self.pages) as self.made:
            self.track()
            try:
                for _ in range(60):
                    act = self.chance.choices(list(acts), list(acts.values()))[0]
                    self.counts[act.__name__] += 1
                    act()
            finally:
                self.tracker.close()


def one_round(chance, counts):
    """One memory."""
    this = Round(chance, counts)
    try:
        this.run()
    except Exception as error:
        error.add_note(f"{this.tracks.__name__}, {this.kind}, {this.pages} pages")
        raise


if __name__ == "__main__":
    sys.exit(_torture.run(one_round))
