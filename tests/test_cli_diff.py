"""What `fastpagemap diff` says of snapshots that were made of different memory."""

import pytest

from commandline import run
from linux import PAGE

pytest.importorskip("click")


def test_entries_of_other_addresses_are_told(victim, tmp_path):
    """What was saved of one alone looks dropped, or faulted in."""
    span = victim.make("touched", 300)
    with open(f"/proc/{victim.pid}/maps", "rb") as file:
        (tmp_path / "maps").write_bytes(file.read())
    with open(f"/proc/{victim.pid}/pagemap", "rb") as file:
        file.seek(span.start // PAGE * 8)
        entries = file.read(300 * 8)
    raw = "--raw", "--start", f"{span.start:x}"
    for name, pages in ("all", 300), ("half", 150):
        (tmp_path / name).write_bytes(entries[: pages * 8])
        options = "--maps", "maps", "-o", f"{name}.fpm"
        assert run("dump", name, *raw, *options, cwd=tmp_path).returncode == 0
    whole, half = (f"{span.start:x}-{span.start + pages * PAGE:x}" for pages in (300, 150))
    why = "pages that were saved for one of them alone count as dropped, or as faulted in"
    for pair, *options in (("all.fpm", "half.fpm"),), (("all", "half"), *raw):
        said = run("diff", *pair, *options, cwd=tmp_path)
        text = f"fastpagemap: {pair[0]} shows {whole}; {pair[1]} shows {half}: {why}\n"
        assert (said.returncode, said.stderr.decode()) == (0, text)
    assert run("diff", "all.fpm", "all.fpm", cwd=tmp_path).stderr == b""
