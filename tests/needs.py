"""What a test needs of its machine, said aloud.

The laboratory raises `Missing` wherever this machine or this user cannot make what a test asks for;
conftest.py turns that into a skip that names what is missing, or into a failure where
FASTPAGEMAP_NO_SKIP is set. No test skips by itself, so the summary at the end of a run is complete.
"""

from collections import Counter

#: How often each need was met, by name; conftest.py prints it next to what was missing.
met: Counter = Counter()


class Missing(Exception):
    """What a test needs is not here, though this machine could be made to have it."""


class Absent(Missing):
    """What a test needs is not in this kernel or processor: always a skip, never a failure."""


def need(condition, what, otherwise=Missing):
    """Go on only where `condition` holds; `what` names it, as the summary is to show it."""
    if not condition:
        raise otherwise(what)
    met[what] += 1


def refusal(error, what):
    """The exception that says why the kernel refused: for want of privilege, or of the thing."""
    return Missing(f"root ({what})") if isinstance(error, PermissionError) else Absent(what)
