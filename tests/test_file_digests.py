"""Files are known by their bytes, whatever their names, sizes and times say."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from bob.catalog.coco_folder import coco_facts
from bob.catalog.dataset_spec import files_digest
from bob.catalog.image_folder import read_folder
from bob.datasets.detection import load_coco
from bob.datasets.folder import load
from bob.datasets.images import Files, ImageSplit
from bob.file_digests import UNREADABLE, digests_of_files
from bob.hashing import digest_of_file


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "digests.sqlite"


def settled(path: Path) -> Path:
    """A file that last changed long enough ago for its digest to be kept."""
    deadline = time.time() + 10
    while time.time_ns() < max(path.stat().st_mtime_ns, path.stat().st_ctime_ns) + 2_100_000_000:
        assert time.time() < deadline
        time.sleep(0.1)
    return path


def picture(path: Path, colour: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)


def rewritten(path: Path, colour: tuple[int, int, int]) -> None:
    """Other pixels under the same name, size, inode and time of change."""
    before = path.stat()
    with path.open("r+b") as stream:
        stream.seek(54)  # past a BMP's head
        stream.write(bytes(colour[::-1]) * 64)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (before.st_size, before.st_mtime_ns, before.st_ino) == (
        after.st_size, after.st_mtime_ns, after.st_ino,
    )  # fmt: skip


def two_folders(root: Path, suffix: str) -> tuple[Path, Path]:
    for folder, colours in (("a", [(0, 0, 0)] * 4), ("b", [(250, 0, 0), (0, 250, 0)] * 2)):
        for number, colour in enumerate(colours):
            picture(root / folder / f"c{number // 2}" / f"{number}{suffix}", colour)
    return root / "a", root / "b"


@pytest.mark.parametrize("suffix", [".bmp", ".ppm", ".tif"])
def test_folders_that_differ_in_pixels_alone_have_other_digests(
    tmp_path: Path, suffix: str
) -> None:
    folders = two_folders(tmp_path, suffix)
    sizes = [sorted(path.stat().st_size for path in folder.rglob("*.*")) for folder in folders]
    assert sizes[0] == sizes[1]
    black, coloured = (load(path=str(folder)) for folder in folders)
    assert black.sha256 != coloured.sha256
    assert black.train.digest != coloured.train.digest
    assert black.test.digest != coloured.test.digest
    assert black.sha256 == read_folder(folders[0]).sha256


def test_a_folder_that_is_moved_keeps_its_digest(tmp_path: Path) -> None:
    folder, _ = two_folders(tmp_path, ".bmp")
    before = read_folder(folder).sha256
    folder.rename(tmp_path / "elsewhere")
    assert read_folder(tmp_path / "elsewhere").sha256 == before


def test_rewritten_pixels_of_the_same_size_and_time_are_seen(tmp_path: Path) -> None:
    folder, _ = two_folders(tmp_path, ".bmp")
    files = [settled(path) for path in sorted(folder.rglob("*.bmp"))]
    names = [path.relative_to(folder).as_posix() for path in files]
    split = ImageSplit(source=Files(folder, names), targets=torch.zeros(4, dtype=torch.int64))
    whole, listed, listing = read_folder(folder).sha256, files_digest(folder), split.digest
    rewritten(files[1], (9, 9, 9))
    again = ImageSplit(source=Files(folder, names), targets=split.targets)
    assert read_folder(folder).sha256 != whole
    assert files_digest(folder) != listed
    assert again.digest != listing
    untouched = [0, 2, 3]
    assert again.part(untouched).digest == split.part(untouched).digest


def test_images_of_a_coco_folder_belong_to_its_digest(tmp_path: Path) -> None:
    for part in ("train", "val"):
        picture(tmp_path / part / "1.bmp", (0, 0, 0))
        box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4]}
        content = {
            "images": [{"id": 1, "file_name": "1.bmp", "height": 8, "width": 8}],
            "annotations": [box],
            "categories": [{"id": 1, "name": "cat"}],
        }
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
    before = coco_facts(tmp_path)[0]
    assert load_coco(path=str(tmp_path), masks=False).sha256 == before
    picture(tmp_path / "val" / "1.bmp", (200, 0, 0))
    after = coco_facts(tmp_path)[0]
    assert after != before
    assert load_coco(path=str(tmp_path), masks=False).sha256 == after


def test_digests_are_those_of_the_bytes(tmp_path: Path, cache: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "zweite \udcff"
    first.write_bytes(b"one")
    second.write_bytes(b"two")
    wanted = [first, tmp_path / "absent", second, first, tmp_path]
    digests = digests_of_files(wanted, cache=cache)
    assert digests[0] == digests[3] == digest_of_file(first)
    assert digests[2] == digest_of_file(second)
    assert digests[1] == digests[4] == UNREADABLE


def kept(cache: Path) -> dict[str, str]:
    if not cache.is_file():
        return {}
    with sqlite3.connect(cache) as store:
        return dict(store.execute("SELECT path, sha256 FROM digests"))


def test_a_kept_digest_is_used_until_its_file_moves(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "image.bmp"
    picture(path, (1, 2, 3))
    settled(path)
    truth = digests_of_files([path], cache=cache)
    assert list(kept(cache).values()) == list(truth)
    with sqlite3.connect(cache) as store:
        store.execute("UPDATE digests SET sha256 = 'kept'")
    assert digests_of_files([path], cache=cache) == ("kept",)  # it was not read again
    copy = tmp_path / "copy.bmp"
    copy.write_bytes(path.read_bytes())
    facts = path.stat()
    os.utime(copy, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    copy.replace(path)  # the same bytes, size and time, another inode
    assert digests_of_files([path], cache=cache) == truth


def test_a_file_that_changed_just_now_is_not_kept(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "image.bmp"
    picture(path, (1, 2, 3))
    digests_of_files([path], cache=cache)
    assert kept(cache) == {}


def test_a_cache_that_is_no_database_is_replaced(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "image.bmp"
    picture(path, (1, 2, 3))
    settled(path)
    cache.parent.mkdir()
    cache.write_bytes(b"this is no database" * 100)
    assert digests_of_files([path], cache=cache) == (digest_of_file(path),)
    digests_of_files([path], cache=cache)
    assert list(kept(cache).values()) == [digest_of_file(path)]


def test_a_cache_out_of_reach_costs_nothing_but_time(tmp_path: Path) -> None:
    path = tmp_path / "image.bmp"
    picture(path, (1, 2, 3))
    blocked = tmp_path / "file" / "digests.sqlite"
    (tmp_path / "file").write_text("in the way")
    assert digests_of_files([path], cache=blocked) == (digest_of_file(path),)
