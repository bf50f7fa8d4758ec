"""The feature store under damage, races, full disks and limits; the extractor's one pass."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bob.cli import main
from bob.errors import BobError
from bob.features import Features, FeatureStore
from bob.features import entry as entries
from bob.features.store import Request
from bob.sizes import parse_size, show_size

ROWS, WIDTH = 10, 3


def matrix(rows: int = ROWS, width: int = WIDTH) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(rows, width)).astype(np.float32)


def request_for(**changes: object) -> Request:
    facts = {"weights": "w", "split": "s", **changes}
    return Request(
        facts=facts, about="net on data train", rows=ROWS, width=WIDTH, half=False,
        fingerprint=(1.0, -2.0),
    )  # fmt: skip


class Batches:
    """Counts how often an extraction is started."""

    def __init__(self, data: NDArray[np.float32] | None = None) -> None:
        self.data = matrix() if data is None else data
        self.started = 0

    def __call__(self) -> Iterator[NDArray[np.float32]]:
        self.started += 1
        yield from np.array_split(self.data, 3)


@given(sizes=st.lists(st.integers(0, 5), min_size=1, max_size=6), data=st.data())
def test_rows_reach_across_shards(sizes: list[int], data: st.DataObject) -> None:
    whole = matrix(sum(sizes))
    shards = np.split(whole, np.cumsum(sizes)[:-1])
    features = Features(shards)
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    assert np.array_equal(features.rows(start, stop).numpy(), whole[start:stop])
    assert np.array_equal(features.tensor().numpy(), whole)
    assert features.width == WIDTH


def test_a_key_is_extracted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "SHARD_BYTES", 48)  # four rows a shard
    batches = Batches()
    first, new = FeatureStore(tmp_path).get(request_for(), batches)
    again, newer = FeatureStore(tmp_path).get(request_for(), batches)
    assert (new, newer, batches.started) == (True, False, 1)
    assert np.array_equal(first.tensor().numpy(), matrix())
    assert np.array_equal(again.tensor().numpy(), matrix())
    (entry,) = FeatureStore(tmp_path).entries()
    assert entry.manifest is not None
    assert [shard.rows for shard in entry.manifest.shards] == [4, 4, 2]


def test_memory_is_that_of_one_shard_whatever_the_number_of_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "SHARD_BYTES", 2**22)
    rows, width = 40_000, 100  # four shards

    def batches() -> Iterator[NDArray[np.float32]]:
        for start in range(0, rows, 128):
            yield np.full((min(128, rows - start), width), start, np.float32)

    request = replace(request_for(), rows=rows, width=width)
    tracemalloc.start()
    try:
        features, _ = FeatureStore(tmp_path).get(request, batches)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * 2**22, peak
    assert features.tensor()[::128, 0].tolist() == list(range(0, rows, 128))


def damage_truncate(folder: Path) -> None:
    path = folder / "shard-00000.npy"
    os.truncate(path, path.stat().st_size - 1)


def damage_flip(folder: Path) -> None:
    path = folder / "shard-00000.npy"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def damage_missing(folder: Path) -> None:
    (folder / "shard-00000.npy").unlink()


def damage_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"schema": 1, "key":')


def damage_no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def damage_other_key(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace(folder.name, "0" * 40))


def damage_file_for_folder(folder: Path) -> None:
    damage_missing(folder)
    (folder / "shard-00000.npy").mkdir()


DAMAGES = [
    damage_truncate, damage_flip, damage_missing, damage_manifest, damage_no_manifest,
    damage_other_key, damage_file_for_folder,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("known", [True, False], ids=["same process", "other process"])
def test_a_damaged_entry_is_never_read(
    tmp_path: Path, damage: Callable[[Path], None], known: bool
) -> None:
    batches, remarks = Batches(), []
    store = FeatureStore(tmp_path)
    store.get(request_for(), batches)
    damage(next(tmp_path.glob("??/*")))
    store = store if known else FeatureStore(tmp_path)
    entry, new = store.get(request_for(), batches, remark=remarks.append)
    assert new
    assert np.array_equal(entry.tensor().numpy(), matrix())
    assert len(remarks) == 1
    assert "net on data train were extracted anew" in remarks[0]
    assert FeatureStore(tmp_path).get(request_for(), batches)[1] is False
    assert not list((tmp_path / "tmp").iterdir())


def test_other_code_with_the_same_weights_is_told(tmp_path: Path) -> None:
    remarks: list[str] = []
    FeatureStore(tmp_path).get(request_for(), Batches())
    rounding = replace(request_for(), fingerprint=(1.0001, -2.0))
    assert FeatureStore(tmp_path).get(rounding, Batches())[1] is False
    changed = replace(request_for(), fingerprint=(1.1, -2.0))
    _, new = FeatureStore(tmp_path).get(changed, Batches(), remark=remarks.append)
    assert new
    assert "other features" in remarks[0]


def test_half_precision_is_kept_where_it_fits(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    fits = replace(request_for(split="a"), half=True)
    entry, _ = store.get(fits, Batches())
    assert np.allclose(entry.tensor().numpy(), matrix(), atol=2e-3)
    huge = matrix()
    huge[7, 1] = 1e5
    batches = Batches(huge)
    entry, _ = store.get(replace(request_for(split="b"), half=True), batches)
    assert np.array_equal(entry.tensor().numpy(), huge)
    kinds = {entry.manifest.dtype for entry in store.entries() if entry.manifest}
    assert kinds == {"float16", "float32"}


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken() -> Iterator[NDArray[np.float32]]:
        yield matrix()[:4]
        raise BobError("no")

    store = FeatureStore(tmp_path)
    with pytest.raises(BobError, match="no"):
        store.get(request_for(), broken)
    assert list(store.entries()) == []
    assert not list((tmp_path / "tmp").iterdir())
    assert store.get(request_for(), Batches())[1]


def test_least_recently_used_goes_first(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    for index, name in enumerate("abc"):
        store.get(request_for(split=name), Batches())
        os.utime(tmp_path / _place(request_for(split=name)), (index, index))
    store.get(request_for(split="a"), Batches())
    size = next(store.entries()).size
    removed = store.trim(2 * size)
    assert [entry.key for entry in removed] == [request_for(split="b").key]
    assert {entry.key for entry in store.entries()} == {
        request_for(split="a").key, request_for(split="c").key,
    }  # fmt: skip
    assert store.trim() == []


def _place(request: Request) -> str:
    return f"{request.key[:2]}/{request.key}"


def test_an_entry_in_use_survives_its_removal(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    entry, _ = store.get(request_for(), Batches())
    store.trim(0)
    assert list(store.entries()) == []
    assert np.array_equal(entry.tensor().numpy(), matrix())


WORKER = """
import sys, time
from pathlib import Path
import numpy as np
from bob.features import FeatureStore
from tests.test_features import Batches, request_for, matrix

root, log = Path(sys.argv[1]), Path(sys.argv[2])
class Slow(Batches):
    def __call__(self):
        with log.open("a") as stream:
            stream.write("started\\n")
        for part in np.array_split(self.data, 3):
            yield part
            time.sleep(float(sys.argv[3]))
found, new = FeatureStore(root).get(request_for(), Slow())
assert np.array_equal(found.tensor().numpy(), matrix())
print("new" if new else "reused")
"""


def worker(tmp_path: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path), str(tmp_path / "log"), str(seconds)],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_extract_a_key_once(tmp_path: Path) -> None:
    processes = [worker(tmp_path, 0.7) for _ in range(2)]
    words = sorted(str(process.communicate(timeout=90)[0]).strip() for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert words == ["new", "reused"]
    assert (tmp_path / "log").read_text() == "started\n"


@pytest.mark.slow
def test_a_killed_extraction_is_done_again(tmp_path: Path) -> None:
    process = worker(tmp_path, 30)
    deadline = time.monotonic() + 60
    while not (tmp_path / "log").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    store = FeatureStore(tmp_path)
    assert list((tmp_path / "tmp").iterdir()), "it died while writing"
    assert list(store.entries()) == []
    assert store.get(request_for(), Batches())[1]
    assert not list((tmp_path / "tmp").iterdir())


def test_too_little_room_removes_old_entries_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    store = FeatureStore(tmp_path)
    store.get(request_for(split="old"), Batches())

    class Usage:
        def __init__(self, free: int) -> None:
            self.free = free

    # No disk of a chosen size can be made without rights, so the size of the disk is given.
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: Usage(2**21 if not list(store.entries()) else 0)
    )
    assert store.get(request_for(split="new"), Batches())[1]
    assert [entry.key for entry in store.entries()] == [request_for(split="new").key]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0))
    with pytest.raises(OSError, match="do not fit the disk"):
        store.get(request_for(split="newer"), Batches())


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = FeatureStore(tmp_path)
    for name in "abc":
        store.get(request_for(split=name), Batches())
    where = ["--features", str(tmp_path)]
    assert main(["features", "ls", *where]) == 0
    assert "net on data train: 10 x 3 float32" in capsys.readouterr().out
    assert main(["features", "verify", *where]) == 0
    damage_flip(tmp_path / _place(request_for(split="b")))
    assert main(["features", "verify", *where]) == 1
    assert "shard-00000.npy has other bytes" in capsys.readouterr().out
    assert main(["features", "verify", "--remove", *where]) == 0
    assert len(list(store.entries())) == 2
    assert main(["features", "rm", request_for(split="a").key[:12], *where]) == 0
    assert len(list(store.entries())) == 1
    assert main(["features", "rm", "nothing", *where]) == 2
    assert "No entry matches 'nothing'" in capsys.readouterr().err
    assert main(["features", "rm", *where]) == 2
    assert main(["features", "rm", "--to-size", "a lot", *where]) == 2
    assert "'a lot'" in capsys.readouterr().err
    assert main(["features", "rm", "--all", *where]) == 0
    assert list(store.entries()) == []
    assert main(["features", "ls", "--features", str(tmp_path / "gone")]) == 2


@settings(max_examples=20)
@given(number=st.integers(1, 2000), unit=st.sampled_from(["", "K", "MB", "GiB", " T", "b"]))
def test_sizes(number: int, unit: str) -> None:
    power = {"K": 1, "M": 2, "G": 3, "T": 4}.get(unit.strip()[:1].upper(), 0)
    assert parse_size(f"{number}{unit}") == number * 1024**power
    assert show_size(number).endswith("B")
