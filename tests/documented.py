"""Runs the examples of docstrings and pages; what this machine lacks for one becomes Missing."""

import doctest

from fastpagemap import UnsupportedError
from needs import Missing, refusal


class Runner(doctest.DocTestRunner):
    """Raises what an example raises: this machine may lack what it needs."""

    def report_unexpected_exception(self, out, test, example, exc_info):
        raise exc_info[1]


def run_doctest(test):
    """Run a doctest in its own globals, which it may change; its answers must be as written."""
    said = []
    Runner().run(test, out=said.append, clear_globs=False)
    assert not said, "".join(said)


def missing(error, what):
    """The exception that says what an example lacked; raises `error` if it lacked nothing."""
    if isinstance(error, (UnsupportedError, PermissionError)):
        return refusal(error, what)
    if isinstance(error, ModuleNotFoundError):
        return Missing(error.name)
    raise error
