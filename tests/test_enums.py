"""No member of an enum reaches numpy: while it looks at one, it drops what a signal handler raises.

Only members that are named are seen. What one is combined with may be numpy's or not: UInt64Flag
takes part in that as an int.
"""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
TREES = {path: ast.parse(path.read_text()) for path in sorted(SOURCE.rglob("*.py"))}
_BASES = {"IntEnum", "IntFlag", "UInt64Flag"}
#: The names of all enums whose members are ints.
ENUMS = {
    node.name
    for tree in TREES.values()
    for node in ast.walk(tree)
    if isinstance(node, ast.ClassDef)
    and any(ast.unparse(base).rpartition(".")[2] in _BASES for base in node.bases)
}
#: What hands on a member as it is, or puts it into something that numpy looks into.
_THROUGH = ast.BinOp | ast.UnaryOp | ast.IfExp | ast.Tuple | ast.List | ast.Starred | ast.keyword


def has_member(node):
    """Whether an expression is a member, or has one that int() was not called of."""
    if isinstance(node, ast.Attribute):
        return isinstance(node.value, ast.Name) and node.value.id in ENUMS and node.attr.isupper()
    return isinstance(node, _THROUGH) and any(map(has_member, ast.iter_child_nodes(node)))


def members_for_numpy(tree):
    """Each call of numpy with a member, and each assignment of one to items."""
    for node in ast.walk(tree):
        given = []
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("np."):
            given = [*node.args, *node.keywords]
        elif isinstance(node, ast.Assign | ast.AugAssign):
            targets = getattr(node, "targets", None) or [node.target]
            if any(isinstance(target, ast.Subscript) for target in targets):
                given = [node.value]
        if any(map(has_member, given)):
            yield ast.unparse(node)


def test_no_member_is_given_to_numpy():
    assert {"State", "KPF", "Flag", "Category", "Backing"} <= ENUMS
    found = {path: list(members_for_numpy(tree)) for path, tree in TREES.items()}
    assert not {path: said for path, said in found.items() if said}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("np.uint64(State.PRESENT)", True),
        ("states & ~np.uint16(State.PRESENT | State.SWAPPED)", True),
        ("np.where(mask, State.PRESENT, 0)", True),
        ("np.full(3, fill_value=-KPF.ANON)", True),
        ("np.isin(kinds, [Backing.SHMEM, 1])", True),
        ("kinds[number] = Backing.SHMEM", True),
        ("states[here] |= State.SWAPPED", True),
        ("np.uint64(int(State.PRESENT | State.SWAPPED))", False),
        ("kinds[number] = int(Backing.SHMEM)", False),
        ("has_any(states, State.PRESENT)", False),
        ("wanted = State.PRESENT | State.SWAPPED", False),
    ],
)
def test_it_is_seen(text, told):
    assert any(members_for_numpy(ast.parse(text))) is told
