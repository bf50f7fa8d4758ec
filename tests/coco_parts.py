"""COCO annotations: a small folder, whole or with one thing changed; boxes as of photographs."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bob.catalog.coco_folder import coco_facts
from bob.datasets.coco import CocoSplit
from bob.datasets.detection import load_coco
from bob.errors import BobError

HEIGHT, WIDTH = 480, 640
SQUARE = [[4, 4, 12, 4, 12, 12, 4, 12]]
Box = list[float]
Edit = Callable[[dict[str, Any]], None]


def content() -> dict[str, Any]:
    """Two images of 20 x 16 pixels; category ids with a gap."""
    return {
        "images": [
            {"id": 7, "file_name": "b.png", "height": 16, "width": 20},
            {"id": 3, "file_name": "a.jpg", "height": 16, "width": 20},
        ],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 90, "bbox": [4, 4, 8, 8],
             "segmentation": SQUARE, "area": 64, "iscrowd": 0},
            {"id": 2, "image_id": 3, "category_id": 5, "bbox": [0, 0, 5, 5],
             "segmentation": [[0, 0, 5, 0, 5, 5]]},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 5, "name": "plane"}],
    }  # fmt: skip


def write(folder: Path, data: dict[str, Any], *, file: str = "annotations/instances_train.json",
          images: str = "train") -> Path:  # fmt: skip
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps(data))
    (folder / images).mkdir(parents=True, exist_ok=True)
    for image in data["images"]:
        Image.new("RGB", (20, 16), (10, 200, 30)).save(folder / images / image["file_name"])
    return folder / file


def split(tmp_path: Path, data: dict[str, Any], **options: Any) -> CocoSplit:
    return CocoSplit.read(write(tmp_path, data), tmp_path / "train", **options)


def change(*path: Any, to: Any) -> Edit:
    def apply(data: dict[str, Any]) -> None:
        for step in path[:-1]:
            data = data[step]
        data[path[-1]] = to

    return apply


def photographs(
    count: int, *, scale: float = 0.1, masks: bool = False, area: bool = False, seed: int = 0
) -> dict[str, Any]:
    """Boxes as photographs have them: log-normal sizes, anywhere, cut at the border."""
    stream = random.Random(seed)
    annotations = []
    for key in range(1, count + 1):
        sides = [max(2.0, stream.lognormvariate(0, 0.8) * scale * side) for side in (WIDTH, HEIGHT)]
        centre = [stream.uniform(0, WIDTH), stream.uniform(0, HEIGHT)]
        x0, y0 = (max(0.0, c - side / 2) for c, side in zip(centre, sides, strict=True))
        x1, y1 = (
            min(float(most), c + side / 2)
            for c, side, most in zip(centre, sides, (WIDTH, HEIGHT), strict=True)
        )
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        diamond = [x, y0, x1, y, x, y1, x0, y]
        annotations.append(
            {
                "id": key,
                "image_id": (key + 6) // 7,
                "category_id": 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                **({"segmentation": [diamond]} if masks else {}),
                **({"area": (x1 - x0) * (y1 - y0) / (1 + masks)} if area else {}),
            }
        )
    images = [
        {"id": key, "file_name": f"{key}.jpg", "height": HEIGHT, "width": WIDTH}
        for key in range(1, (count + 6) // 7 + 1)
    ]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}],
    }


def both(folder: Path, train: dict[str, Any], test: dict[str, Any]) -> None:
    """A folder of two splits; pictures for what the sound content names."""
    for name, data in (("train", train), ("val", test)):
        file = write(folder, content(), file=f"annotations/instances_{name}.json", images=name)
        file.write_text(json.dumps(data))


def everywhere(folder: Path) -> str:
    """The error of a folder, which a plan and a run give alike."""
    texts = []
    for read in (lambda: coco_facts(folder), lambda: load_coco(path=str(folder))):
        with pytest.raises(BobError) as caught:
            read()
        assert caught.value.kind == "dataset"
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    return texts[0]
