"""Synthetic to real driving: Sim10k (Pascal VOC on disk) and Cityscapes (polygons) as COCO data.

Source: hsouri/bob-ood-detection, where only cars count.
"""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bob.catalog.coco_checks import check_instances
from bob.catalog.data_root import data_root
from bob.datasets.coco import CocoSplit
from bob.datasets.detection import DetectionShift, DetectionShiftData
from bob.errors import BobError
from bob.json_data import parse_json
from bob.regular_files import open_regular, read_regular

CAR = [{"id": 1, "name": "car"}]


def voc_to_coco(folder: Path, *, classes: Sequence[str]) -> dict[str, Any]:
    """A Pascal VOC tree (``Annotations``, ``JPEGImages``) as COCO content; boxes only.

    VOC's corners count from 1 and are inclusive. Objects of other classes are left out.

    Args:
        folder: The tree, such as ``VOC2012``.
        classes: Names that count; their ids follow this order, from 1.

    Raises:
        BobError: There is no annotation, or one is malformed; names the file.
    """
    files = sorted((folder / "Annotations").glob("*.xml"))
    if not files:
        raise BobError(f"{folder / 'Annotations'} holds no *.xml annotation.", kind="dataset")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, file in enumerate(files, start=1):
        try:
            with open_regular(file) as stream:
                root = ElementTree.parse(stream).getroot()
            name = root.findtext("filename") or f"{file.stem}.jpg"
            size = {side: int(_text(root, f"size/{side}")) for side in ("height", "width")}
            for element in root.iter("object"):
                label = _text(element, "name")
                if label in classes:
                    x0, y0, x1, y1 = (
                        float(_text(element, f"bndbox/{corner}"))
                        for corner in ("xmin", "ymin", "xmax", "ymax")
                    )
                    annotations.append(
                        {
                            "id": len(annotations) + 1,
                            "image_id": number,
                            "category_id": classes.index(label) + 1,
                            "bbox": [x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1],
                            "iscrowd": 0,
                        }
                    )
        except (ElementTree.ParseError, OSError, ValueError) as error:
            raise BobError(f"{file} is not a VOC annotation: {error}.", kind="dataset") from error
        images.append({"id": number, "file_name": name, **size})
    categories = [{"id": place, "name": name} for place, name in enumerate(classes, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _text(element: ElementTree.Element, path: str) -> str:
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"no {path}")
    return text.strip()


def cityscapes_to_coco(root: Path, split: str) -> dict[str, Any]:
    """Cars of a Cityscapes split as COCO content, with polygons; groups of cars are crowds.

    Args:
        root: Holds ``leftImg8bit`` and ``gtFine``.
        split: ``train`` or ``val``.

    Raises:
        BobError: There is no annotation, or one is malformed; names the file.
    """
    files = sorted((root / "gtFine" / split).glob("*/*_gtFine_polygons.json"))
    if not files:
        raise BobError(
            f"{root / 'gtFine' / split} holds no */*_gtFine_polygons.json.", kind="dataset"
        )
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, file in enumerate(files, start=1):
        try:
            content = parse_json(read_regular(file))
            height, width = int(content["imgHeight"]), int(content["imgWidth"])
            cars = [
                (instance["label"], _points(instance["polygon"]))
                for instance in content["objects"]
                if instance["label"] in ("car", "cargroup")
            ]
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise BobError(
                f"{file} is not a Cityscapes annotation: {type(error).__name__}: {error}.",
                kind="dataset",
            ) from error
        stem = file.name.removesuffix("_gtFine_polygons.json")
        name = f"{file.parent.name}/{stem}_leftImg8bit.png"
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        for label, points in cars:
            outline = _outlined(points, height, width, label == "cargroup")
            annotations.append({"id": len(annotations) + 1, "image_id": number, **outline})
    return {"images": images, "annotations": annotations, "categories": CAR}


def _points(polygon: Any) -> NDArray[np.float64]:
    points: NDArray[np.float64] = np.asarray(polygon, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not np.isfinite(points).all():
        raise ValueError(f"{str(polygon)[:60]} is not three or more points x, y")
    return points


def _outlined(points: NDArray[np.float64], height: int, width: int, crowd: bool) -> dict[str, Any]:
    from faster_coco_eval.core import mask as coco_mask

    points = np.clip(points, 0, [width, height])
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
    flat = points.reshape(-1).tolist()
    encoded = coco_mask.merge(coco_mask.frPyObjects([flat], height, width))
    counts = encoded["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {
        "category_id": 1,
        "bbox": [float(x0), float(y0), float(x1 - x0), float(y1 - y0)],
        "area": float(np.asarray(coco_mask.area(encoded))),
        "iscrowd": int(crowd),
        "segmentation": {"size": [height, width], "counts": text} if crowd else [flat],
    }


def load_sim10k_cityscapes(
    *, sim10k: str = "sim10k", cityscapes: str = "cityscapes"
) -> DetectionShiftData:
    """Cars of Sim10k to learn from, Cityscapes val as the shift, under the data root.

    Args:
        sim10k: Folder that holds ``VOC2012``.
        cityscapes: Folder that holds ``leftImg8bit`` and ``gtFine``.

    Raises:
        BobError: A folder is not there (``kind`` is ``unavailable``), or it has no car.
    """
    source, target = data_root() / sim10k / "VOC2012", data_root() / cityscapes
    if not source.is_dir():
        raise _missing(
            "Sim10k", source, "the VOC2012 tree (Annotations, JPEGImages) of "
            "https://fcav.engin.umich.edu/projects/driving-in-the-matrix",
        )  # fmt: skip
    for part in ("leftImg8bit", "gtFine"):
        if not (target / part).is_dir():
            raise _missing(
                "Cityscapes", target / part, "leftImg8bit_trainvaltest.zip and "
                "gtFine_trainvaltest.zip of https://www.cityscapes-dataset.com",
            )  # fmt: skip
    train = CocoSplit(
        voc_to_coco(source, classes=("car",)),
        source / "JPEGImages",
        source=source / "Annotations",
        masks=False,
    )
    shifted = CocoSplit(
        cityscapes_to_coco(target, "val"),
        target / "leftImg8bit" / "val",
        source=target / "gtFine" / "val",
        masks=False,
    )
    check_instances(train.dataset, train.source, "learn from")
    check_instances(shifted.dataset, shifted.source, "score on")
    for split in (train, shifted):
        split.check_sizes()
    return DetectionShiftData(
        sha256=hashlib.sha256((train.sha256 + shifted.sha256).encode()).hexdigest(),
        class_names=("car",),
        train=train,
        test=None,
        shifts=(DetectionShift("cityscapes", shifted),),
    )


def _missing(name: str, path: Path, what: str) -> BobError:
    return BobError(
        f"{name} is not in {path}. Unpack {what} there, or name another data root in BOB_DATA.",
        kind="unavailable",
    )
