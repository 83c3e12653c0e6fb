"""``python -m fastpagemap``: the same as the ``fastpagemap`` command."""

import sys

from _fastpagemap_main import main

if __name__ == "__main__":
    sys.exit(main())
