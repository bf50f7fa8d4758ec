"""Detection data in COCO's format: the same loading code for COCO, a user's folder and scenes."""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bob.catalog.coco_folder import content_digest, read_annotations, split_digest
from bob.datasets.decoding import upright
from bob.datasets.images import Files
from bob.datasets.instances import Sample, Target
from bob.datasets.pixel_values import Ranges, rgb
from bob.errors import BobError, first_line, some

TOLERATED = 0.01
"""Share of annotations without area that is left out rather than refused; COCO's own train2017 has
one such box."""

KEPT_BYTES = 128 * 2**20
_FARTHEST = 1e6
"""Polygon points beyond this, infinite or NaN would take all memory to draw."""


class CocoSplit:
    """Images and their instances.

    Args:
        content: What an annotation file holds; it is not changed.
        images: Folder of the images.
        source: File named in errors.
        masks: Whether masks are wanted.

    Attributes:
        class_names: By label.
        category_ids: By label, ascending; they may have gaps.
        image_ids: By position, ascending.
        annotated: Positions of images with something to learn from.
        digest: Hex SHA-256 of the content, whatever its layout in the file.
        dataset: The content, for evaluators; ``area`` and ``iscrowd`` are filled in where missing.
        remarks: What was left out.
        ranges: What is black and white in images of more than 8 bits.

    Raises:
        BobError: The content is not consistent, or an image is missing; names file and id.
    """

    def __init__(
        self, content: dict[str, Any], images: Path, *, source: Path, masks: bool = True
    ) -> None:
        self.source, self.folder, self.masks = source, images, masks
        self.ranges: Ranges | None = None
        self.dataset = {**content, "annotations": list(content["annotations"])}
        for kind in ("images", "annotations", "categories"):
            self._unique(kind)
        self._content = content
        self.digest = content_digest(content)
        categories = sorted(content["categories"], key=lambda category: int(category["id"]))
        self.category_ids = tuple(int(category["id"]) for category in categories)
        self.class_names = tuple(
            str(category.get("name", category["id"])) for category in categories
        )
        self._labels = {key: label for label, key in enumerate(self.category_ids)}
        self._images = sorted(content["images"], key=lambda image: int(image["id"]))
        self.image_ids = tuple(int(image["id"]) for image in self._images)
        self._need_files()
        self._instances: dict[int, list[dict[str, Any]]] = defaultdict(list)
        self.remarks = self._sort_annotations()
        self.annotated = tuple(
            index for index, key in enumerate(self.image_ids) if self._instances.get(key)
        )
        pixels = sum(int(image["height"]) * int(image["width"]) for image in self._images)
        self._kept: dict[int, Sample] | None = {} if pixels * 3 <= KEPT_BYTES else None

    @classmethod
    def read(cls, annotations: Path, images: Path, *, masks: bool = True) -> CocoSplit:
        """The split of an annotation file and a folder of images."""
        return cls(read_annotations(annotations), images, source=annotations, masks=masks)

    @property
    def source_images(self) -> Files:
        """The image files, by position."""
        return Files(self.folder, [str(image["file_name"]) for image in self._images])

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of the content and of the bytes of the images."""
        return split_digest(self._content, self.folder)

    def __len__(self) -> int:
        return len(self._images)

    def part(self, positions: Iterable[int]) -> CocoSplit:
        """A split of some of the images."""
        images = [self._images[index] for index in positions]
        kept = {image["id"] for image in images}
        content = {
            **self.dataset,
            "images": images,
            "annotations": [
                annotation
                for annotation in self.dataset["annotations"]
                if annotation["image_id"] in kept
            ],
        }
        part = CocoSplit(content, self.folder, source=self.source, masks=self.masks)
        part.ranges = self.ranges
        return part

    def strata(self) -> torch.Tensor:
        """For each image the label of its rarest class, or the number of classes if it shows none.

        Returns:
            int64, ``(len(self),)``.
        """
        labels = [
            {self._labels[annotation["category_id"]] for annotation in self._instances.get(key, [])}
            for key in self.image_ids
        ]
        counts = Counter(label for shown in labels for label in shown)
        rarest = [
            min(shown, key=lambda label: (counts[label], label), default=len(self.class_names))
            for shown in labels
        ]
        return torch.tensor(rarest, dtype=torch.int64)

    def __getstate__(self) -> dict[str, Any]:
        # A worker decodes what it needs; sending every decoded image would cost more.
        return {**self.__dict__, "_kept": None if self._kept is None else {}}

    def path(self, index: int) -> Path:
        """File of an image."""
        return self.folder / str(self._images[index]["file_name"])

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of an image."""
        return int(self._images[index]["height"]), int(self._images[index]["width"])

    def sample(self, index: int) -> Sample:
        """An image with its instances; boxes that stick out are clipped.

        Raises:
            BobError: The image cannot be decoded or has another size than its entry, or a mask is
                malformed.
        """
        if self._kept is not None and index in self._kept:
            return self._kept[index]
        height, width = self.size(index)
        instances = self._instances.get(self.image_ids[index], [])
        corners = [_clipped(annotation["bbox"], height, width) for annotation in instances]
        masks = None
        if self.masks:
            planes = [self._mask(annotation, height, width) for annotation in instances]
            masks = torch.from_numpy(np.stack(planes) if planes else np.zeros((0, height, width)))
            masks = masks.bool()
        sample = Sample(
            image=self._decode(index),
            target=Target(
                boxes=torch.tensor(corners, dtype=torch.float32).reshape(-1, 4),
                labels=torch.tensor(
                    [self._labels[annotation["category_id"]] for annotation in instances],
                    dtype=torch.int64,
                ),
                masks=masks,
            ),
            index=index,
        )
        if self._kept is not None:
            self._kept[index] = sample
        return sample

    def _decode(self, index: int) -> torch.Tensor:
        path, (height, width) = self.path(index), self.size(index)
        try:
            with Image.open(path) as stored:
                stored.load()
                turned = stored if stored.size == (width, height) else upright(stored)
                image = rgb(turned, self.ranges)
        except Exception as error:  # decoders of damaged files raise whatever they like
            raise self._error(
                f"image {path} (id {self.image_ids[index]}) cannot be decoded: "
                f"{type(error).__name__}: {first_line(error)}. Fetch it again, or take its entry "
                "out"
            ) from error
        if image.size != (width, height):
            raise self._error(
                f"image {path} (id {self.image_ids[index]}) is {image.height} pixels high and "
                f"{image.width} wide; its entry says {height} and {width}. Boxes would be off: "
                "correct the entry"
            )
        array: NDArray[np.uint8] = np.array(image)
        return torch.from_numpy(array).permute(2, 0, 1).contiguous()

    def _mask(
        self, annotation: dict[str, Any], height: int, width: int, *, area: bool = False
    ) -> NDArray[np.uint8 | np.uint32]:
        """The mask of an annotation, or only how many pixels it covers."""
        from faster_coco_eval.core import mask as coco_mask

        shape = annotation["segmentation"]
        if isinstance(shape, dict) and list(shape["size"]) != [height, width]:
            raise self._error(
                f"annotation {annotation['id']}: its run-length mask is of size "
                f"{list(shape['size'])}, the image of {[height, width]}. Encode it at that size"
            )
        try:
            if not isinstance(shape, dict):
                points = np.concatenate([np.asarray(polygon, np.float64) for polygon in shape])
                if not (np.abs(points) < _FARTHEST).all():
                    raise ValueError("a point is not finite or far outside the image")
                encoded = coco_mask.merge(coco_mask.frPyObjects(shape, height, width))
            elif isinstance(shape["counts"], list):
                if not all(isinstance(run, int) and run >= 0 for run in shape["counts"]):
                    raise ValueError("its counts are not whole numbers")
                encoded = coco_mask.frPyObjects(shape, height, width)
            elif isinstance(shape["counts"], str | bytes):
                encoded = shape
            else:
                raise ValueError("its counts are neither a list nor a text")
            return np.asarray(coco_mask.area(encoded) if area else coco_mask.decode(encoded))
        except (RuntimeError, TypeError, ValueError) as error:
            # The library's own words can hold whole masks.
            raise self._error(
                f"annotation {annotation['id']}: its segmentation cannot be decoded: "
                f"{str(error)[:80].rstrip('.')}. Correct it or take it out"
            ) from error

    def _unique(self, kind: str) -> None:
        rows = self.dataset[kind]
        bad = [
            row for row in rows if not isinstance(row, dict) or not isinstance(row.get("id"), int)
        ]
        if bad:
            raise self._error(
                f"an entry of {kind} has no whole number as id: {str(bad[0])[:80]}. Give it one"
            )
        twice = [key for key, count in Counter(row["id"] for row in rows).items() if count > 1]
        if twice:
            raise self._error(f"{kind} id {twice[0]} is given more than once. Number them anew")

    def _need_files(self) -> None:
        listed: dict[Path, set[str]] = {}
        missing = []
        for image in self._images:
            if not {"file_name", "height", "width"} <= image.keys():
                raise self._error(f"image {image['id']} lacks file_name, height or width. Add it")
            size = (image["height"], image["width"])
            if not all(
                isinstance(side, int | float) and float(side).is_integer() and side > 0
                for side in size
            ):
                raise self._error(
                    f"image {image['id']}: height and width are {size}. Write whole pixels"
                )
            path = self.folder / str(image["file_name"])
            if path.parent not in listed:
                listed[path.parent] = (
                    set(os.listdir(path.parent)) if path.parent.is_dir() else set()
                )
            if path.name not in listed[path.parent]:
                missing.append(f"{image['file_name']} (id {image['id']})")
        if missing:
            raise self._error(
                f"{len(missing)} of {len(self._images)} images are not in {self.folder}: "
                f"{some(missing)}. Restore them, or take their entries out"
            )

    def _sort_annotations(self) -> tuple[str, ...]:
        sizes = {image["id"]: (int(image["height"]), int(image["width"])) for image in self._images}
        empty = []
        for place, given in enumerate(self.dataset["annotations"]):
            self._check(given, sizes)
            height, width = sizes[given["image_id"]]
            annotation = self._filled(given, height, width)
            self.dataset["annotations"][place] = annotation
            x0, y0, x1, y1 = _clipped(annotation["bbox"], height, width)
            if annotation["iscrowd"]:
                continue
            if x1 <= x0 or y1 <= y0:
                empty.append(annotation["id"])
                continue
            if self.masks:
                self._check_mask(annotation)
            self._instances[annotation["image_id"]].append(annotation)
        if not empty:
            return ()
        text = (
            f"{len(empty)} of {len(self.dataset['annotations'])} boxes have no area or lie outside "
            f"their image: annotation {some(empty)}"
        )
        if len(empty) > TOLERATED * len(self.dataset["annotations"]):
            raise self._error(f"{text}. Correct them or take them out")
        return (f"{self.source.name}: {text}; left out",)

    def _filled(self, annotation: dict[str, Any], height: int, width: int) -> dict[str, Any]:
        if annotation.get("area") is not None and annotation.get("iscrowd") is not None:
            return annotation
        filled = {**annotation, "iscrowd": annotation.get("iscrowd") or 0}
        if annotation.get("area") is None:
            filled["area"] = float(annotation["bbox"][2] * annotation["bbox"][3])
            try:
                if annotation.get("segmentation"):
                    self._check_mask(annotation)
                    filled["area"] = float(self._mask(annotation, height, width, area=True))
            except BobError:
                # Nobody asked for masks: the box will do.
                if self.masks:
                    raise
        return filled

    def _check(self, annotation: dict[str, Any], sizes: dict[int, tuple[int, int]]) -> None:
        image, category = annotation.get("image_id"), annotation.get("category_id")
        if not isinstance(image, int | float) or image not in sizes:
            raise self._error(
                f"annotation {annotation['id']} is of an unknown image {image}. Add the image's "
                "entry, or take the annotation out"
            )
        if not isinstance(category, int | float) or category not in self._labels:
            raise self._error(
                f"annotation {annotation['id']} is of an unknown category {category}; known: "
                f"{some(self.category_ids)}. Add it to categories, or take the annotation out"
            )
        box: Any = annotation.get("bbox")
        four = isinstance(box, list) and len(box) == 4
        if not four or not all(isinstance(v, int | float) and math.isfinite(v) for v in box):
            raise self._error(
                f"annotation {annotation['id']}: bbox {str(box)[:80]} is not four finite numbers. "
                "Write x, y, width, height"
            )

    def _check_mask(self, annotation: dict[str, Any]) -> None:
        shape = annotation.get("segmentation")
        if not shape:
            raise self._error(
                f"annotation {annotation['id']} has no segmentation. For boxes alone set "
                "`masks: false` in the recipe and the dataset's options"
            )
        if isinstance(shape, dict):
            if "counts" not in shape or not isinstance(shape.get("size"), list | tuple):
                raise self._error(
                    f"annotation {annotation['id']}: its run-length mask lacks counts or size. Add "
                    "them"
                )
        elif not isinstance(shape, list) or not all(
            isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 for p in shape
        ):
            raise self._error(
                f"annotation {annotation['id']}: a polygon needs at least three points, as x, y, "
                "x, y, ..."
            )

    def _error(self, text: str) -> BobError:
        return BobError(f"{self.source}: {text}.", kind="dataset")


def _clipped(box: Sequence[float], height: int, width: int) -> list[float]:
    x, y, w, h = box
    return [max(0.0, x), max(0.0, y), min(float(width), x + w), min(float(height), y + h)]
