"""The fastpagemap command, run to its end in a process of its own."""

import subprocess
import sys

COMMAND = [sys.executable, "-m", "fastpagemap"]


def run(*arguments, **options):
    """Run it with these arguments; what it wrote is bytes. Options are subprocess.run's."""
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, **options)
