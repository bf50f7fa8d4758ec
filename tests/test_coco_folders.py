"""Folders of COCO data: layouts that are found, and what is said where none is."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from bob.catalog.coco_folder import coco_facts
from bob.catalog.data_root import data_root
from bob.datasets.detection import load_coco, load_official_coco
from bob.datasets.driving import load_sim10k_cityscapes
from bob.errors import BobError
from tests.coco_parts import content, write

LAYOUTS = [
    (("annotations/instances_train2017.json", "train2017"),
     ("annotations/instances_val2017.json", "val2017")),
    (("annotations/instances_train.json", "images/train"),
     ("annotations/instances_val.json", "images/val")),
    (("annotations/instances_train2014.json", "train2014"),
     ("annotations/instances_val2014.json", "val2014")),
    (("annotations/train.json", "train"), ("annotations/val.json", "val")),
    (("annotations/train.json", "images"), ("annotations/val.json", "images")),
    (("train.json", "train"), ("test.json", "test")),
    (("train.json", "images"), ("val.json", "images")),
    (("train/_annotations.coco.json", "train"), ("test/_annotations.coco.json", "test")),
    (("train/_annotations.coco.json", "train"), ("valid/_annotations.coco.json", "valid")),
]  # fmt: skip


@pytest.mark.parametrize(("train", "test"), LAYOUTS)
def test_layouts(tmp_path: Path, train: tuple[str, str], test: tuple[str, str]) -> None:
    for file, images in (train, test):
        write(tmp_path, content(), file=file, images=images)
    data = load_coco(path=str(tmp_path))
    assert data.train.sample(0).image.shape == (3, 16, 20)
    assert coco_facts(tmp_path) == (data.sha256, 2, len(data.train), 2, True)
    assert len(pickle.loads(pickle.dumps(data.test)).sample(0).target) == 2


def test_val_is_preferred_to_test(tmp_path: Path) -> None:
    for part in ("train", "test", "valid"):
        write(tmp_path, content(), file=f"{part}/_annotations.coco.json", images=part)
    assert load_coco(path=str(tmp_path)).test.folder.name == "valid"


def test_layout_is_found_without_heavy_modules() -> None:
    code = (
        "import sys, bob.catalog.coco_folder\n"
        "print(sorted({'torch', 'numpy', 'PIL', 'faster_coco_eval'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_data_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    monkeypatch.setenv("BOB_DATA", "/data")
    assert data_root() == Path("/data")
    monkeypatch.delenv("BOB_DATA")
    assert data_root() == Path("/cache/bob/data")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data_root() == Path("~/.cache/bob/data").expanduser()


def test_folders_that_are_not_there_or_not_coco(tmp_path: Path) -> None:
    with pytest.raises(BobError, match="No folder") as caught:
        load_coco(path=str(tmp_path / "none"))
    assert caught.value.kind == "unavailable"
    with pytest.raises(BobError, match=r"no train split.*_annotations\.coco\.json"):
        load_coco(path=str(tmp_path))
    write(tmp_path, content())
    combs = content()
    combs["categories"][0]["name"] = "comb"
    write(tmp_path, combs, file="annotations/instances_val.json", images="val")
    with pytest.raises(BobError, match=r"differ in their categories: \(90, 'comb'\)"):
        load_coco(path=str(tmp_path))


def test_missing_public_data_tell_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOB_DATA", str(tmp_path))
    with pytest.raises(BobError, match=r"train2017\.zip.*BOB_DATA") as caught:
        load_official_coco()
    assert caught.value.kind == "unavailable"
    with pytest.raises(BobError, match=r"Sim10k is not in .*VOC2012"):
        load_sim10k_cityscapes()
    (tmp_path / "sim10k" / "VOC2012").mkdir(parents=True)
    with pytest.raises(BobError, match=r"Cityscapes is not in .*gtFine_trainvaltest\.zip"):
        load_sim10k_cityscapes()
