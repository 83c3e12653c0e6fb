"""Fail unless pyright knows every type that the library promises; `make lint` runs it.

    pyright --ignoreexternal --outputjson --verifytypes fastpagemap | python complete_types.py

The command line is left out: nobody imports it.
"""

import json
import sys


def incomplete(told):
    """Yield a line for each symbol whose type is not known, or not written down."""
    for symbol in told["symbols"]:
        known = symbol["isTypeKnown"] and not symbol["isTypeAmbiguous"]
        if symbol["name"].startswith("fastpagemap.cli.") or known:
            continue
        for found in symbol["diagnostics"]:
            line = found["range"]["start"]["line"] + 1
            yield f"{found['file']}:{line}: {symbol['name']}: {found['message']}"


if __name__ == "__main__":
    told = json.load(sys.stdin)["typeCompleteness"]
    lines = list(incomplete(told))
    # where the package is not found, pyright tells of no symbol and of no error
    count = sum(symbol["name"].startswith("fastpagemap.") for symbol in told["symbols"])
    if lines or count < 500:
        sys.exit("\n".join([*lines, f"{len(lines)} of {count} types are not complete"]))
    print(f"Success: {count} types are complete")
