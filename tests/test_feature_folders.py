"""The feature store among other people's files: it removes what is its own and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bob.cli import main
from bob.features import FeatureStore
from bob.features.ownership import MARK, is_marked
from tests.test_features import Batches, request_for
from tests.time_limit import within
from tests.two_users import needs_second_user, public, second_user

__all__ = ["public"]

HEX = "ab" + "0123456789" * 3 + "01234567"


def place(root: Path, **changes: object) -> Path:
    key = request_for(**changes).key
    return root / key[:2] / key


def files_below(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_relative_to(root / "locks")
    }


def strangers(root: Path) -> None:
    """Folders of others' that look like the store's to whoever looks at names alone."""
    for name in ("en/en_US", "ab/abacus", f"ab/{HEX}", f"cd/{HEX}", "tmp/my-thesis",
                 f"tmp/{HEX}-notes", f"tmp/{HEX}-abcd1234", "aa/" + "a" * 39):  # fmt: skip
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / "chapter.txt").write_text("years of work")
    (root / f"ab/{HEX}/manifest.json").write_text('{"name": "an add-on of a browser"}')
    shutil.copytree(root / "en", root / "ef" / ("ef" + "0" * 38) / "deep")
    real = root / "elsewhere" / "be" / ("be" + "0" * 38)
    real.mkdir(parents=True)
    (real / "manifest.json").write_text("{}")
    (root / "be").symlink_to(real.parent)
    (root / "ba").mkdir()
    (root / "ba" / ("ba" + "0" * 38)).symlink_to(real)


@pytest.mark.parametrize(
    "command",
    [["verify", "--remove"], ["rm", "--all"], ["rm", "--to-size", "0"]],
    ids=lambda command: command[0] + command[1],
)
@pytest.mark.parametrize("used", [True, False], ids=["a store", "no store"])
def test_what_is_not_the_store_s_stays(
    tmp_path: Path, command: list[str], used: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    strangers(tmp_path)
    before = files_below(tmp_path)
    if used:
        FeatureStore(tmp_path).get(request_for(), Batches())
        (place(tmp_path) / "manifest.json").write_text("{")
    main(["features", *command, "--features", str(tmp_path)])
    after = files_below(tmp_path)
    assert {name: after.get(name) for name in before} == before
    assert not place(tmp_path).exists()
    assert (tmp_path / MARK).exists() == used
    count = 1 if used else 0
    assert f"{count} entries" in capsys.readouterr().out


def test_strangers_count_for_nothing(tmp_path: Path) -> None:
    strangers(tmp_path)
    store = FeatureStore(tmp_path)
    store.get(request_for(), Batches())
    (entry,) = store.entries()
    assert entry.key == request_for().key
    assert store.trim(entry.size) == []
    assert [gone.size for gone in store.trim(entry.size - 1)] == [entry.size]


def test_a_folder_without_the_mark_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged entry alone, say of an archive of another program, makes no store of a folder."""
    folder = tmp_path / "ab" / HEX
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    before = files_below(tmp_path)
    assert main(["features", "verify", "--remove", "--features", str(tmp_path)]) == 1
    assert "1 entries, 1 damaged (0 removed, 1 left)" in capsys.readouterr().out
    assert main(["features", "rm", "--all", "--features", str(tmp_path)]) == 0
    assert files_below(tmp_path) == before


def test_a_store_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    for name in "ab":
        FeatureStore(tmp_path).get(request_for(split=name), Batches())
    (tmp_path / MARK).unlink()
    batches = Batches()
    assert FeatureStore(tmp_path).get(request_for(split="a"), batches)[1] is False
    assert not batches.started
    assert len(FeatureStore(tmp_path).trim(0)) == 2
    assert is_marked(tmp_path)


def occupy_with_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("mine")


def occupy_with_link(path: Path) -> None:
    shutil.rmtree(path)
    path.symlink_to(path.parent / "nowhere")


def occupy_with_others(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()
    (path / "thesis.txt").write_text("mine")


def folder_for_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()
    (path / "manifest.json").mkdir()
    (path / "manifest.json" / "thesis.txt").write_text("mine")


def folder_for_shard(path: Path) -> None:
    (path / "shard-00000.npy").unlink()
    (path / "shard-00000.npy").mkdir()


def pipe_for_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()
    os.mkfifo(path / "manifest.json")


def pipe_for_shard(path: Path) -> None:
    (path / "shard-00000.npy").unlink()
    os.mkfifo(path / "shard-00000.npy")


def deep_manifest(path: Path) -> None:
    (path / "manifest.json").write_text("[" * 100_000)


def shard_elsewhere(path: Path) -> None:
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text.replace("shard-00000.npy", "../../../thesis.npy"))


ODD = [
    occupy_with_file, occupy_with_link, occupy_with_others, folder_for_manifest, folder_for_shard,
    pipe_for_manifest, pipe_for_shard, deep_manifest, shard_elsewhere,
]  # fmt: skip


@pytest.mark.parametrize("spoil", ODD)
def test_an_odd_entry_heals_and_nothing_of_others_is_lost(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    store, remarks = FeatureStore(tmp_path), []
    store.get(request_for(), Batches())
    spoil(place(tmp_path))
    mine = [text for text in files_below_all(tmp_path) if text == b"mine"]
    with within(20):
        found, new = store.get(request_for(), Batches(), remark=remarks.append)
    assert new
    assert found.tensor().shape == (10, 3)
    assert len(remarks) == 1
    assert store.get(request_for(), Batches())[1] is False
    assert [text for text in files_below_all(tmp_path) if text == b"mine"] == mine
    if mine:
        assert "set-aside" in remarks[0]


def files_below_all(root: Path) -> list[bytes]:
    return [path.read_bytes() for path in root.rglob("*") if path.is_file()]


def test_an_entry_of_a_later_version_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, remarks = FeatureStore(tmp_path), []
    store.get(request_for(), Batches())
    manifest = place(tmp_path) / "manifest.json"
    later = {**json.loads(manifest.read_text()), "schema": 2, "layout": "columns"}
    manifest.write_text(json.dumps(later))
    before = files_below(tmp_path)
    found, new = store.get(request_for(), Batches(), remark=remarks.append)
    assert new
    assert found.tensor().shape == (10, 3)
    assert "of schema 2, and this version of bob reads 1: they are left alone" in remarks[0]
    for command in (["verify", "--remove"], ["rm", "--all"], ["rm", "--to-size", "0"]):
        assert main(["features", *command, "--features", str(tmp_path)]) == 0
    assert files_below(tmp_path) == before
    assert "left" in capsys.readouterr().out


@pytest.mark.parametrize("mode", [0o2775, 0o700, 0o755])
def test_what_the_store_makes_has_its_folder_s_permissions(tmp_path: Path, mode: int) -> None:
    root = tmp_path / "store"
    root.mkdir()
    root.chmod(mode)
    before = os.umask(0o077)
    try:
        FeatureStore(root).get(request_for(), Batches())
    finally:
        os.umask(before)
    for path in root.rglob("*"):
        wanted = mode if path.is_dir() else mode & 0o666
        assert oct(path.stat().st_mode & 0o7777) == oct(wanted), path


@needs_second_user
def test_another_user_reads_what_is_there_and_loses_no_time(public: Path) -> None:
    FeatureStore(public / "store").get(request_for(), Batches())
    (public / "store").chmod(0o755)
    store, batches = FeatureStore(public / "store"), Batches()
    with second_user():
        found, new = store.get(request_for(), batches)
        with pytest.raises(PermissionError):
            store.get(request_for(split="other"), batches)
        verified = list(store.verify())
        with pytest.raises(PermissionError):
            store.remove(request_for().key)
        status = main(["features", "rm", "--all", "--features", str(store.root)])
    assert (new, len(found), batches.started) == (False, 10, 0)
    assert [entry.problem for entry in verified] == [""]
    assert status == 2
    assert len(list(store.entries())) == 1


def test_a_store_that_may_not_be_locked_is_read(tmp_path: Path) -> None:
    """As another user's is; a file in place of the folder of locks refuses everybody."""
    FeatureStore(tmp_path).get(request_for(), Batches())
    shutil.rmtree(tmp_path / "locks")
    (tmp_path / "locks").write_text("")
    store, batches = FeatureStore(tmp_path), Batches()
    assert store.get(request_for(), batches)[1] is False
    with pytest.raises(OSError, match="locks"):
        store.get(request_for(split="other"), batches)
    assert not batches.started
