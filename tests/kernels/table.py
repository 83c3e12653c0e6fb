"""What was found on each kernel, as tables."""


def print_tables(rows):
    """Print a line for each kernel, then a line for each thing that some test needs."""
    print("\n== kernels")
    columns = {name: _cells(answer) for name, answer in rows.items() if "seen" in answer}
    heads = list(dict.fromkeys(head for cells in columns.values() for head in cells))
    lines = [["kernel", *heads]]
    for name, answer in rows.items():
        cells = columns.get(name)
        if cells:
            lines.append([name, *(cells[head] for head in heads)])
        elif "missing kernel" in answer:
            lines.append([name, f"MISSING: {answer['missing kernel']}"])
        else:
            lines.append([name, f"FAILED: {answer['failed'][0]}"])
    _print(lines)
    if columns:
        print("\n== how many tests had what they need, of those that need it")
        _print(_needs({name: rows[name] for name in columns}))


def _cells(answer):
    """The columns of one kernel."""
    cells = {name: _word(value) for name, value in answer["seen"].items()}
    counts = answer["outcomes"]
    cells["passed"] = counts.get("passed", 0)
    cells["failed"] = len(answer["failed"])
    cells["skipped"] = counts.get("skipped", 0)
    cells["left out"] = counts.get("left out", 0)
    cells["seconds"] = answer["seconds"]
    return cells


def _word(value):
    return {True: "yes", False: "no"}.get(value, value)


def _needs(rows):
    """Lines of what was needed, and a column for each kernel."""
    needs = sorted({need for row in rows.values() for need in row["met"] | row["missing"]})
    lines = [["needed", *rows]]
    for need in needs:
        cells = []
        for row in rows.values():
            met, missing = row["met"].get(need, 0), row["missing"].get(need, 0)
            cells.append(f"{met}/{met + missing}" if missing else met or "-")
        lines.append([need, *cells])
    return lines


def _print(lines):
    """Print lines of cells as a table; the last cell of a shorter line runs on."""
    widths = [0] * max(map(len, lines))
    for line in lines:
        short = len(line) < len(lines[0])
        for number, cell in enumerate(line[:-1] if short else line):
            widths[number] = max(widths[number], len(str(cell)))
    for line in lines:
        cells = [str(cell).ljust(width) for cell, width in zip(line, widths, strict=False)]
        print("  ".join(cells).rstrip())
