"""``python -m fastpagemap``: the same as the ``fastpagemap`` command."""

import sys

from fastpagemap.cli import main

if __name__ == "__main__":
    sys.exit(main())
