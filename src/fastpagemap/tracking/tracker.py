"""What trackers share: a span of this process's memory, under a userfaultfd of its own."""

import errno
import os
import threading
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from .._kernel import procmaps, tracking, uffd
from .._kernel.failures import tells_of_file
from ..engine.regions import known
from ..model import entry
from ..model.closing import Closing
from ..model.entry import REGION_DTYPE, Category
from ..model.errors import UnsupportedError
from ..model.mapping import Mapping
from ..model.questions import Mask
from ..model.span import Start, spanned
from ..process.limits import affordable
from ..process.process import Process
from .spans import check_mapped, cuts_hugetlb, tracked_by

__all__ = ["Tracker"]


_BOOL = np.dtype(bool)
# What a filter of system calls refuses with. EINVAL, which `is_refusal` has too, is left out here:
# it is the kernel's own word for memory that cannot be tracked.
_REFUSED = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTTY)


class Tracker(Closing[tuple[Process, uffd.Userfaultfd]]):
    """A span whose pages are protected: the kernel notes when one is used in spite of it.

    An answer is made in two steps, `_answer` and `_mask` or `_regions`, so that the public method
    itself can give back what the answer has taken, wherever an exception comes from.
    """

    # What is tracked, in messages: "write", "writes".
    _what: ClassVar[str]
    _whats: ClassVar[str]
    # The category of a page that was used so, and what answers with a mask of these.
    _category: ClassVar[Category]
    _method: ClassVar[str]
    # One of these rights is needed; with it, anonymous memory can always be tracked.
    _rights: ClassVar[str]
    # Which kernel it needs, and which ioctl of userfaultfd protects pages.
    _needs: ClassVar[str]
    _request: ClassVar[str]

    def __init__(self, start: Start, end: int | None = None) -> None:
        self._held = None
        self.start: int
        self.end: int
        self.start, self.end, self._count = spanned(start, end)
        # Reentrant: a signal handler may ask during an answer.
        self._lock = threading.RLock()
        self._owner = os.getpid()
        process = Process()
        if not self._is_anonymous(process):
            check_mapped(process, self.start, self.end, self._check)
        watch = self._opened()
        try:
            self._held = process, watch
            if self._count:
                self._arm(process, watch)
        except BaseException:
            self.close()
            raise

    def _is_anonymous(self, process: Process) -> bool:
        """Return whether the span is known to be memory that can always be tracked."""
        # The kernel's 64 bits have no address 2**64, and no memory reaches up to there.
        return self.end < 1 << 64 and procmaps.is_anonymous_with(
            process.maps, self.start, self.end, self._rights
        )

    def _open(self) -> uffd.Userfaultfd:
        """Open the userfaultfd."""
        raise NotImplementedError

    def _check(self, process: Process, mapping: Mapping) -> None:
        """Raise for a mapping that cannot be tracked."""
        raise NotImplementedError

    def _opened(self) -> uffd.Userfaultfd:
        """Open the userfaultfd, or say why there is none."""
        try:
            return self._open()
        except OSError as error:
            if not tells_of_file(error):
                raise
            if error.errno == errno.EINVAL:
                lacking = f"it needs {self._needs}"
            else:
                lacking = "userfaultfd is not compiled in (CONFIG_USERFAULTFD), or forbidden"
            raise UnsupportedError(
                error.errno, f"no {self._what}-tracking here: {lacking}: {error.strerror}"
            ) from None

    def _arm(self, process: Process, watch: uffd.Userfaultfd) -> None:
        """Register the span, and protect all of its pages."""
        try:
            watch.register(self.start, self.end)
        except OSError as error:
            if error.errno is None:  # a signal handler's
                raise
            raise self._refusal(process, error) from None
        try:
            tracking.protect(process.pagemap, process.maps, watch, process.path)
        except OSError as error:
            raise self._translated(process, error) from None

    def _refusal(self, process: Process, error: OSError) -> Exception:
        """Return the exception for a span that the kernel refuses to track."""
        where = f"{self.start:#x}-{self.end:#x}"
        if error.errno == errno.EBUSY:
            by = tracked_by(process, self.start, self.end)
            return OSError(errno.EBUSY, f"part of {where} is tracked already, by {by}")
        if error.errno == errno.ENOMEM:
            return OSError(
                errno.ENOMEM,
                f"no memory to track {where}, or too many mappings (vm.max_map_count): "
                "an edge within a mapping makes two of it",
            )
        if error.errno == errno.EINVAL and cuts_hugetlb(process, self.start, self.end):
            return ValueError(f"{where} begins or ends within a hugetlb page")
        if error.errno in _REFUSED:
            return self._forbidden(error.errno)
        return UnsupportedError(
            error.errno,
            f"the kernel does not track {self._whats} to memory like that of {where}: "
            f"{error.strerror}",
        )

    def _forbidden(self, number: int | None) -> UnsupportedError:
        """Return the exception where a filter of system calls refuses what tracking needs."""
        return UnsupportedError(
            number,
            f"no {self._what}-tracking here: a filter of system calls (seccomp) refuses "
            f"UFFDIO_REGISTER, {self._request} or PAGEMAP_SCAN, or it needs {self._needs}",
        )

    def __repr__(self) -> str:
        state = "closed" if self._held is None else f"{self._count} pages"
        return f"<{type(self).__name__} {self.start:#x}-{self.end:#x}: {state}>"

    def __reduce__(self) -> str:
        name = type(self).__name__
        raise TypeError(f"this {name} cannot be copied or pickled: it is this process's")

    def __len__(self) -> int:
        """Return the number of pages."""
        return self._count

    def close(self) -> None:
        """Stop tracking; a second call does nothing."""
        if self._owner != os.getpid():  # a fork may have copied the lock as held
            self._release()
            return
        with self._lock:
            self._release()

    def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held[1].close()

    def _need_open(self) -> tuple[Process, uffd.Userfaultfd]:
        """Return the process and the userfaultfd; ValueError if closed or of another process."""
        held = self._held
        if held is None or self._owner != os.getpid():
            super()._need_open()  # which raises, if it is closed
            raise ValueError(
                f"this {type(self).__name__} belongs to process {self._owner}, and works in no "
                "forked child of it: make another here"
            )
        return held

    def _translated(self, process: Process, error: OSError) -> Exception:
        """Return the exception for an answer that failed: is the span tracked no longer?"""
        if error.filename == self._request:
            return UnsupportedError(
                error.errno,
                f"after an answer was broken off, {self._method}() alone can tell what it had "
                f"found: a filter of system calls (seccomp) refuses {self._request}",
            )
        if error.filename != process.path:  # a signal handler raised it
            return error
        if error.errno == errno.EOPNOTSUPP:
            return self._forbidden(error.errno)
        if error.errno not in (errno.EFAULT, errno.EPERM, errno.EBUSY):
            return error
        reason: Exception = error
        if error.errno == errno.EFAULT:
            try:
                check_mapped(process, self.start, self.end)
            except ValueError as gap:
                # Without this frame, which has it as `reason`: else they would keep each other.
                reason = gap.with_traceback(None)
        elif error.errno == errno.EBUSY:
            reason = OSError("another userfaultfd tracks what is there now")
        self._need_open()  # a signal handler may have closed it
        return OSError(
            errno.EFAULT,
            f"part of {self.start:#x}-{self.end:#x} was unmapped or mapped anew, and is "
            f"not tracked any more ({reason})",
        )

    def _answer(self) -> tracking.Answer:
        """Return what the next answer is made with, and what it takes is given back by."""
        process, watch = self._need_open()
        return tracking.Answer(watch, process.pagemap, process.maps, process.path)

    def _mask(self, answer: tracking.Answer, reset: bool, out: Mask | None) -> Mask:
        """Return the mask of all pages that were used."""
        zeroed = out is None
        if out is None:
            affordable(self._count, 1)
            # Zeroed memory is not touched where no page was used; np.empty's would be.
            out = np.zeros(self._count, bool)
        else:
            out = entry.output(out, (self._count,), _BOOL)
        with self._lock:
            process, _ = self._need_open()  # what it returns keeps the descriptors open
            try:
                answer.fill(out, reset, zeroed)
            except OSError as error:
                raise self._translated(process, error) from None
        return out

    def _asked(
        self, mask: int, anyof: int, inverted: int, returns: int | None, reset: bool
    ) -> tuple[int, int, int, int]:
        """Return what `_regions` is asked; ValueError if a reset would lose something."""
        wanted = known(mask, anyof, inverted, returns)
        category = self._category
        if reset and not category & int(mask) & wanted & ~int(inverted):
            raise ValueError(
                f"reset=True would lose {self._whats}: mask and returns must have "
                f"{category.name}, inverted not"
            )
        return int(mask), int(anyof), int(inverted), wanted

    def _regions(
        self, answer: tracking.Answer, asked: tuple[int, int, int, int], reset: bool
    ) -> npt.NDArray[np.void]:
        """Return regions; `asked` are mask, anyof, inverted, returns."""
        with self._lock:
            process, _ = self._need_open()
            try:
                return np.frombuffer(bytearray(answer.regions(asked, reset)), REGION_DTYPE)
            except OSError as error:
                raise self._translated(process, error) from None
