"""COCO, Sim10k and Cityscapes as their owners lay them out, in miniature, through their tasks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bob.case import Case, Context
from bob.catalog import Catalog, DatasetEntry
from bob.datasets import load_dataset
from bob.datasets.scenes import Glyphs, write_split
from bob.plan import Plan, Selection
from bob.run import run_case

CONTEXT = Context(accelerator="cpu", workers=0)
SIDE = 64


def smoke(catalog: Catalog, task: str, entry: DatasetEntry, **changes: object) -> Case:
    case = Plan(catalog, Selection(backbones=("resnet_micro_glyphs",))).cases(task)[0]
    recipe = case.recipe.model_copy(update=changes)
    return Case(backbone=case.backbone, task=task, dataset=entry, scale="tiny", recipe=recipe)


def test_coco_2017_in_its_own_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, catalog: Catalog
) -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    glyphs = Glyphs(bunch.images[:200].astype(np.uint8), bunch.target[:200].astype(np.int64))
    for seed, (part, count) in enumerate({"train2017": 24, "val2017": 8}.items()):
        write_split(tmp_path / "coco", part, glyphs, count=count, seed=seed)
    monkeypatch.setenv("BOB_DATA", str(tmp_path))
    entry = catalog.dataset("coco").model_copy(
        update={"classes": 10, "test_size": 8, "train_size": 24}
    )
    result = run_case(smoke(catalog, "detection", entry, epochs=10), CONTEXT)
    assert result.failure is None, result.failure
    assert result.test_size == 8
    assert 0 <= result.metrics["mask_ap"] <= 1
    assert len(result.history) == 10
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    assert {"detections.json", "per_class.csv", "detections.png"} <= result.files.keys()


def car_picture(rng: np.random.Generator) -> tuple[Image.Image, list[int]]:
    """A grey road with one bright car; its box as x0, y0, x1, y1, ends excluded."""
    pixels = rng.integers(40, 70, (SIDE, SIDE, 3), dtype=np.uint8)
    width, height = int(rng.integers(22, 32)), int(rng.integers(16, 22))
    x, y = int(rng.integers(0, SIDE - width)), int(rng.integers(0, SIDE - height))
    pixels[y : y + height, x : x + width] = (220, 40, 40)
    return Image.fromarray(pixels), [x, y, x + width, y + height]


def driving(root: Path, *, source: int, target: int) -> None:
    rng = np.random.default_rng(0)
    voc = root / "sim10k/VOC2012"
    for part in ("Annotations", "JPEGImages"):
        (voc / part).mkdir(parents=True)
    for number in range(source):
        picture, (x0, y0, x1, y1) = car_picture(rng)
        name = f"{3384645 + number}"
        picture.save(voc / f"JPEGImages/{name}.jpg", quality=95)
        (voc / f"Annotations/{name}.xml").write_text(
            f"<annotation><filename>{name}.jpg</filename><size><width>{SIDE}</width>"
            f"<height>{SIDE}</height><depth>3</depth></size><object><name>car</name><bndbox>"
            f"<xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
            "</bndbox></object></annotation>"
        )
    for part in ("leftImg8bit", "gtFine"):
        (root / "cityscapes" / part / "val/lindau").mkdir(parents=True)
    for number in range(target):
        picture, (x0, y0, x1, y1) = car_picture(rng)
        stem = f"lindau_{number:06d}_000019"
        picture.save(root / f"cityscapes/leftImg8bit/val/lindau/{stem}_leftImg8bit.png")
        corners = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]
        content = {
            "imgHeight": SIDE,
            "imgWidth": SIDE,
            "objects": [{"label": "car", "polygon": corners}],
        }
        (root / f"cityscapes/gtFine/val/lindau/{stem}_gtFine_polygons.json").write_text(
            json.dumps(content)
        )


def test_sim10k_to_cityscapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, catalog: Catalog
) -> None:
    driving(tmp_path, source=24, target=8)
    monkeypatch.setenv("BOB_DATA", str(tmp_path))
    entry = catalog.dataset("sim10k_cityscapes").model_copy(
        update={"train_size": 24, "test_size": 8}
    )
    assert load_dataset(entry).class_names == ("car",)
    case = smoke(catalog, "ood_detection", entry, epochs=10, batch_size=4)
    result = run_case(case, CONTEXT)
    assert result.failure is None, result.failure
    assert result.metrics["shifted_box_ap"] > 0.3
    assert result.metrics["shifted_box_ap"] == pytest.approx(result.metrics["shift/cityscapes"])
