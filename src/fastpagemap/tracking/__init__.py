"""Which pages of its own memory a process uses, by userfaultfd, without privileges."""

from .accesses import AccessTracker
from .writes import WriteTracker

__all__ = ["AccessTracker", "WriteTracker"]
