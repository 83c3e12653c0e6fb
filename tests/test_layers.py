"""The order of the packages, as pyproject.toml states it for import-linter: Cython's files too."""

import ast
import graphlib
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
CYTHON = re.compile(
    r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+)?c?import[ \t]+(?:\(([^)]*)\)|(.*))", re.MULTILINE
)


def module_of(path):
    """Return the name of the module that a file is of."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


FILES = [
    path
    for path in sorted((SOURCE / "fastpagemap").rglob("*"))
    if path.suffix in (".py", ".pyx", ".pxd")
]
MODULES = {module_of(path) for path in FILES}


def heights():
    """Return the height of each layer, by its name; the top-level package stands above them."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        (contract,) = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    found = {"fastpagemap": len(contract["layers"])}
    for height, names in enumerate(reversed(contract["layers"])):
        found.update({f"fastpagemap.{name.strip(' ()')}": height for name in names.split("|")})
    return found


def layer_of(module):
    return ".".join(module.split(".")[:2])


def statements(path):
    """Yield each import of a file, anywhere in it: from where, with its leading dots, and what."""
    text = path.read_text()
    if path.suffix != ".py":
        for origin, in_brackets, names in CYTHON.findall(text):
            for name in (in_brackets or names.partition("#")[0]).split(","):
                yield origin, name.split()[0] if name.strip() else ""
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            dots = "." * getattr(node, "level", 0)
            for alias in node.names:
                yield dots + (getattr(node, "module", None) or ""), alias.name


def imports(path):
    """Return the modules of this package that a file imports, those for types included."""
    found = set()
    package = module_of(path) if path.stem == "__init__" else module_of(path).rpartition(".")[0]
    for origin, name in statements(path):
        base = origin.lstrip(".")
        if dots := len(origin) - len(base):
            above = package.split(".")
            base = ".".join([*above[: len(above) - dots + 1], *filter(None, [base])])
        whole = f"{base}.{name}".strip(".")
        found.add(whole if whole in MODULES else base)
    return (found & MODULES) - {module_of(path)}


def test_every_module_is_in_a_layer():
    assert {layer_of(module) for module in MODULES} <= set(heights())


def test_every_file_imports_only_what_stands_below_it():
    height = heights()
    upward = [
        f"{path.relative_to(SOURCE)} imports {target}"
        for path in FILES
        for target in imports(path)
        if layer_of(target) != layer_of(module_of(path))
        if height[layer_of(target)] >= height[layer_of(module_of(path))]
    ]
    assert upward == []


def test_reports_open_no_process():
    reads = ("fastpagemap.pagemap", "fastpagemap.tracking", "fastpagemap.process")
    opening = [
        f"{path.relative_to(SOURCE)} imports {target}"
        for path in FILES
        if layer_of(module_of(path)) == "fastpagemap.report"
        for target in imports(path)
        if layer_of(target) in reads
    ]
    assert opening == []


def test_there_are_no_circles():
    graph = {module: set() for module in MODULES}
    for path in FILES:
        graph[module_of(path)] |= imports(path)
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
    # all of it was read: one of each kind that must be there
    assert "fastpagemap._kernel.abi" in graph["fastpagemap.core"]
    assert "fastpagemap.report.picture" in graph["fastpagemap"]
    assert "fastpagemap._kernel.plan" in graph["fastpagemap._kernel.stretch"]
    assert "fastpagemap.model.mapping" in graph["fastpagemap.pagemap"]
