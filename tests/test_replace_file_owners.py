"""Files that show another user's memory: they are for nobody else."""

import os

import pytest

import commandline
import fastpagemap as fpm
import runas
from victim import Victim
from written_files import ME, WAYS, command, leave, mode, save, umask


@pytest.mark.root
@pytest.mark.parametrize("way", WAYS)
def test_another_user_s_addresses_are_for_nobody_else(public, way):
    ending, by_way = WAYS[way]
    with Victim(uid=runas.NOBODY) as victim, umask(0o022):
        for path in (f"{public}/new.{ending}", f"{public}/old.{ending}"):
            if "old" in path:
                leave(path, 0o644)
            by_way(victim.pid, path)
            assert mode(path) == 0o600


@pytest.mark.root
@pytest.mark.parametrize("group", [(), ("--group", "path")], ids=["by process", "by path"])
def test_a_report_of_all_is_for_nobody_else(tmp_path, group):
    made = tmp_path / "all.pq"
    with Victim(uid=runas.NOBODY), umask(0o022):
        # processes that cannot be read are named on stderr
        commandline.run("report", "--all", *group, "--parquet", made, check=True)
    assert mode(made) == 0o600


@pytest.mark.root
def test_what_is_made_of_such_a_file_is_for_nobody_else_either(tmp_path):
    with Victim(uid=runas.NOBODY) as victim, umask(0o022):
        save(victim.pid, tmp_path / "a.fpm")
        assert fpm.Snapshot.load(tmp_path / "a.fpm").uid == runas.NOBODY
        command("map", tmp_path / "a.fpm", "-o", tmp_path / "a.png")
        command("report", tmp_path / "a.fpm", "--parquet", tmp_path / "a.pq")
        command("dump", tmp_path / "a.fpm", "-o", tmp_path / "b.fpm")
        assert {name: mode(tmp_path / name) for name in os.listdir(tmp_path)} == dict.fromkeys(
            ["a.fpm", "a.png", "a.pq", "b.fpm"], 0o600
        )


@pytest.mark.root
def test_a_program_that_runs_as_root_for_a_stranger(public):
    """Set-uid: root in all but who started it."""

    def pretend():
        os.setresuid(runas.NOBODY, 0, 0)
        save(None, f"{public}/a.fpm")
        return fpm.PageMap().uid

    assert runas.in_child(pretend) == runas.NOBODY
    assert mode(f"{public}/a.fpm") == 0o600


def test_entries_are_of_nobody_knows_whom(tmp_path):
    with umask(0o022):
        fpm.Snapshot.from_entries([1 << 63]).save(tmp_path / "a.fpm")
    assert mode(tmp_path / "a.fpm") == 0o600


def test_the_screen_of_another_user_s_process(tmp_path, monkeypatch):
    saving = pytest.importorskip("fastpagemap.cli.watch.saving")
    monkeypatch.chdir(tmp_path)
    with umask(0o022):
        made = [saving.save("picture", "screen", owner) for owner in (ME, ME + 1, None)]
    assert made == ["screen-1.svg", "screen-2.svg", "screen-3.svg"]
    assert [mode(name) for name in made] == [0o644, 0o600, 0o600]
