"""What was found on each kernel, as tables that Markdown can show."""


def print_tables(rows):
    """Print what each kernel has, and how many tests had what they need: a column a kernel."""
    columns = {name: _cells(answer) for name, answer in rows.items() if "seen" in answer}
    for name, answer in rows.items():
        if name not in columns:
            word = "MISSING" if "missing kernel" in answer else f"FAILED: {answer['failed'][0]}"
            print(f"\n{name}: {word}")
    if columns:
        heads = list(dict.fromkeys(head for cells in columns.values() for head in cells))
        print("\nKernels:\n")
        _print(
            [
                ["kernel", *columns],
                *([head, *(cells.get(head, "") for cells in columns.values())] for head in heads),
            ]
        )
        print("\nHow many tests had what they need, of those that need it:\n")
        _print(_needs({name: rows[name] for name in columns}))


def _cells(answer):
    """The columns of one kernel."""
    cells = {name: _word(value) for name, value in answer["seen"].items()}
    counts = answer["outcomes"]
    cells["passed"] = counts.get("passed", 0)
    cells["failed"] = len(answer["failed"])
    cells["skipped"] = counts.get("skipped", 0)
    cells["seconds"] = answer["seconds"]
    return cells


def _word(value):
    return {True: "yes", False: "no", "": "-"}.get(value, value)


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
    """Print lines of cells as a table, the first one as its head."""
    lines = [[str(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    for line in lines:
        print("|", " | ".join(map(str.ljust, line, widths)), "|")
