"""Which pages of its own memory a process uses, by userfaultfd, without privileges."""

from .writes import WriteTracker

__all__ = ["WriteTracker"]
