"""`fastpagemap.profiles`: what is written, read back by others' eyes."""

import gzip
import io
import itertools
import json
import os
import random
import re
import shutil
import stat
import subprocess
import sys

import numpy as np
import pytest

import fastpagemap as fpm
from fastpagemap import profiles
from needs import need

COLUMNS = "size", "present", "swapped"
TYPES = "space", "resident_space", "swapped_space"
STACKS = [
    [("main", "/a/program.py", 3), ("load", "/a/program.py", 10)],
    [("main", "/a/program.py", 4)],
    ["<module>", ("load", "/b/other.py", 10), "load"],
    [("main", "/a/program.py", 3), ("load", "/a/program.py", 10)],  # as the first
    ["nothing of this"],
    [],
]
ROWS = {
    "size": np.array([1 << 40, 5000, 7, 100, 0, 1], np.uint64),
    "present": np.array([1 << 20, 4096, 7, 100, 0, 1], np.uint64),
    "swapped": np.array([1 << 30, 0, 0, 0, 0, 0], np.uint64),
}


def written(stacks=STACKS, rows=ROWS, **options):
    file = io.BytesIO()
    profiles.write(file, stacks, rows, **options)
    return file.getvalue()


def expected(stacks, rows):
    """The sums of each stack, one row after the other; frames as (function, file, line)."""
    sums = {}
    for at, stack in enumerate(stacks):
        key = tuple((each, "", 0) if isinstance(each, str) else each for each in stack)
        sizes = [int(rows[name][at]) for name in COLUMNS]
        sums[key] = [a + b for a, b in zip(sums.get(key, [0, 0, 0]), sizes, strict=True)]
    return {stack: sizes for stack, sizes in sums.items() if any(sizes)}


def random_profile(seed):
    randomness = random.Random(seed)
    names = ["main", "load", "größer", "a b", "<lambda>", "operator()", "x::y<int>"]
    frames = [(randomness.choice(names), f"/f{at % 3}.py", at) for at in range(9)] + ["native"]
    count = randomness.choice([0, 1, 7, 200])
    stacks = [randomness.choices(frames, k=randomness.randrange(5)) for _ in range(count)]
    rows = np.zeros(count, [(name, np.uint64) for name in (*COLUMNS, "other")])
    for name in COLUMNS:
        rows[name] = [randomness.choice([0, 1, 4096, 1 << 45]) for _ in range(count)]
    return stacks, rows


def fields(message):
    """The fields of a message of protobuf by number, each a list, without knowing its type."""
    pytest.importorskip("google.protobuf")
    from google.protobuf import empty_pb2, unknown_fields

    found = {}
    for each in unknown_fields.UnknownFieldSet(empty_pb2.Empty.FromString(message)):
        found.setdefault(each.field_number, []).append(each.data)
    return found


def packed(parts):
    """The numbers of a repeated field: seven bits a byte, the lowest first."""
    numbers, number, shift = [], 0, 0
    for byte in b"".join(parts):
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(number)
            number = shift = 0
    return numbers


def parsed(content):
    """The sums of each stack in a profile of pprof, its sample types and the default of these.

    By the numbers of profile.proto's fields, written here anew.
    """
    profile = fields(gzip.decompress(content))
    strings = [text.decode() for text in profile[6]]
    assert strings[0] == ""
    types = [[strings[each[key][0]] for key in (1, 2)] for each in map(fields, profile[1])]
    function = {}
    for each in map(fields, profile.get(5, ())):
        function[each[1][0]] = [strings[each[key][0]] if key in each else "" for key in (2, 4)]
    place = {}
    for each in map(fields, profile.get(4, ())):
        (line,) = map(fields, each[4])
        place[each[1][0]] = (*function[line[1][0]], line.get(2, [0])[0])
    sums = {}
    for each in map(fields, profile.get(2, ())):
        stack = tuple(place[number] for number in reversed(packed(each.get(1, ()))))
        assert stack not in sums
        sums[stack] = packed(each[2])
    return sums, types, strings[profile[14][0]]


@pytest.mark.parametrize("seed", [None, *range(20)])
def test_pprof(seed):
    stacks, rows = (STACKS, ROWS) if seed is None else random_profile(seed)
    sums, types, default = parsed(written(stacks, rows, format="pprof"))
    assert sums == expected(stacks, rows)
    assert types == [[name, "bytes"] for name in TYPES]
    assert default == "resident_space"
    assert parsed(written(format="pprof", column="swapped"))[2] == "swapped_space"


def test_pprof_of_go(tmp_path):
    """Go's own pprof: what it sums by function."""
    need(shutil.which("go"), "go (Debian's package golang-go)")
    path = tmp_path / "memory.pb.gz"
    profiles.write(path, STACKS, ROWS)
    for column, name in zip(COLUMNS, TYPES, strict=True):
        command = ["go", "tool", "pprof", "-top", "-unit=B", "-symbolize=none", "-nodefraction=0"]
        done = subprocess.run(
            [*command, f"-sample_index={name}", path],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"HOME": str(tmp_path)},
        )
        flat = {}
        for size, function in re.findall(r"^ *(\d+)B? .*%  (\S.*)$", done.stdout, re.MULTILINE):
            flat[function] = int(size)
        wanted = {}
        for stack, sizes in expected(STACKS, ROWS).items():
            for each in stack[:-1]:
                wanted.setdefault(each[0], 0)
            if stack:
                size = sizes[COLUMNS.index(column)]
                wanted[stack[-1][0]] = wanted.get(stack[-1][0], 0) + size
        assert {key: size for key, size in flat.items() if size} == {
            key: size for key, size in wanted.items() if size
        }
        assert f"Type: {name}\n" in done.stdout


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_collapsed(seed, column):
    stacks, rows = (STACKS, ROWS) if seed is None else random_profile(seed)
    found = {}
    for line in written(stacks, rows, format="collapsed", column=column).decode().splitlines():
        text, _, size = line.rpartition(" ")
        assert text not in found
        found[text] = int(size)
    wanted = {}
    for stack, sizes in expected(stacks, rows).items():
        text = ";".join(f"{name} ({file}:{line})" if file else name for name, file, line in stack)
        wanted[text] = sizes[COLUMNS.index(column)]
    assert found == {text: size for text, size in wanted.items() if size}


@pytest.mark.parametrize("seed", [None, 0, 1, 2, 3])
def test_speedscope(seed):
    """What https://www.speedscope.app/file-format-schema.json asks for, and the same sums."""
    stacks, rows = (STACKS, ROWS) if seed is None else random_profile(seed)
    whole = json.loads(written(stacks, rows, format="speedscope"))
    assert whole["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    frames = [(each["name"], each.get("file", ""), each.get("line", 0)) for each in
              whole["shared"]["frames"]]  # fmt: skip
    assert len(set(frames)) == len(frames)
    assert [each["name"] for each in whole["profiles"]] == list(COLUMNS)
    assert whole["profiles"][whole["activeProfileIndex"]]["name"] == "present"
    sums = {}
    for profile in whole["profiles"]:
        assert (profile["type"], profile["unit"], profile["startValue"]) == ("sampled", "bytes", 0)
        assert profile["endValue"] == sum(profile["weights"])
        for stack, size in zip(profile["samples"], profile["weights"], strict=True):
            sums.setdefault(tuple(frames[at] for at in stack), []).append(size)
    assert sums == expected(stacks, rows)


@pytest.mark.parametrize("ending", itertools.chain(*profiles.FORMATS.values()))
def test_by_name(tmp_path, ending):
    """What a file's name ends with says the format; nobody else may read it."""
    path = tmp_path / f"memory{ending}"
    profiles.write(path, STACKS, ROWS)
    format = next(name for name, ends in profiles.FORMATS.items() if ending in ends)
    wanted = written(format=format)
    assert format == "pprof" or path.read_bytes() == wanted
    assert path.read_bytes()[:2] == wanted[:2]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_hostile_names():
    """No name ends a line, a stack or a terminal's peace; bytes that are no text are shown."""
    stacks = [[("a;b\nc 5", "/\udcff\x1b[31m", 1), "d\u202e"]]
    rows = {name: np.array([9]) for name in COLUMNS}
    assert written(stacks, rows, format="collapsed") == (
        rb"a:b\nc 5 (/\xff\x1b[31m:1):d".replace(b"):d", b");d") + rb"\u202e 9" + b"\n"
    )
    (frame, _) = json.loads(written(stacks, rows, format="speedscope"))["shared"]["frames"]
    assert frame == {"name": r"a;b\nc 5", "file": r"/\xff\x1b[31m", "line": 1}
    assert list(parsed(written(stacks, rows, format="pprof"))[0]) == [
        ((r"a;b\nc 5", r"/\xff\x1b[31m", 1), (r"d\u202e", "", 0))
    ]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"rows": {"size": [1], "present": [1]}}, "no column swapped"),
        ({"rows": {**ROWS, "present": ROWS["present"][1:]}}, "6 stacks, but 'present'"),
        ({"rows": {**ROWS, "present": -ROWS["present"].astype(int)}}, "negative"),
        ({"rows": {**ROWS, "present": ROWS["present"].astype(float)}}, "float64"),
        ({"format": "xml"}, "format 'xml'"),
        ({"format": None}, "format= is needed"),
        ({"column": "rss"}, "column 'rss'"),
        ({"stacks": ["main", *STACKS[1:]]}, "and not 'main'"),
        ({"stacks": [[("main", None, 3)], *STACKS[1:]]}, "frame ('main', None, 3)"),
        ({"stacks": [[b"main"], *STACKS[1:]]}, "frame b'main'"),
    ],
)
def test_mistakes(change, word):
    with pytest.raises(ValueError, match=re.escape(word)):
        written(**{"format": "collapsed", **change})


def test_sums_that_pprof_cannot_hold():
    """Sums of 2**63 bytes, such as of two reservations; the other formats have no end."""
    rows = {name: np.array([1 << 62, 1 << 62], np.uint64) for name in COLUMNS}
    stacks = [["main"], ["main"]]
    with pytest.raises(ValueError, match=r"no sums of 2\*\*63 bytes"):
        written(stacks, rows, format="pprof")
    assert written(stacks, rows, format="collapsed") == b"main %d\n" % (1 << 63)
    assert json.loads(written(stacks, rows, format="speedscope"))["profiles"][0]["weights"] == [
        1 << 63
    ]
    sums, *_ = parsed(written(stacks, {name: it - 1 for name, it in rows.items()}, format="pprof"))
    assert set(map(tuple, sums.values())) == {((1 << 63) - 2,) * 3}


def test_stacks_that_are_read_once():
    """As a generator gives them, each frame is in."""
    rows = {name: [5] for name in COLUMNS}
    assert written([iter(["outer", "inner"])], rows, format="collapsed") == b"outer;inner 5\n"


def test_without_protobuf():
    code = """import sys, io
sys.modules["google.protobuf"] = None
from fastpagemap import profiles
rows = dict.fromkeys(("size", "present", "swapped"), [])
profiles.write(io.BytesIO(), [], rows, format="collapsed")
try:
    profiles.write(io.BytesIO(), [], rows, format="pprof")
except ModuleNotFoundError as error:
    print(error, error.name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "protobuf is not installed: pip install 'fastpagemap[profiles]' protobuf\n"
    )


def test_own_memory():
    """Real memory: each mapping as a stack, and an array that is not all there."""
    array = np.zeros(64 << 20, np.uint8)
    array[: 8 << 20] = 1
    with fpm.PageMap() as pm:
        mappings = pm.mappings()
        rows = pm.usage(mappings)
        (there,) = pm.residency([array.ctypes.data], [array.nbytes])
    stacks = [[mapping.path or "[anon]", hex(mapping.start)] for mapping in mappings]
    sums, *_ = parsed(written(stacks, rows, format="pprof"))
    for at, name in enumerate(COLUMNS):
        assert sum(sizes[at] for sizes in sums.values()) == rows[name].sum()
    rows = {"size": [array.nbytes], "present": [there["present"]], "swapped": [there["swapped"]]}
    assert written([["array"]], rows, format="collapsed") == b"array %d\n" % there["present"]
    assert there["present"] >= 8 << 20
