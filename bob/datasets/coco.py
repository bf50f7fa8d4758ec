"""Detection data in COCO's format: the same loading code for COCO, a user's folder and scenes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bob.catalog.coco_folder import checked, content_digest, read_annotations, split_digest
from bob.catalog.coco_segmentations import check_segmentation
from bob.datasets.coco_checks import check_sizes, wrong_size
from bob.datasets.coco_masks import mask_area, mask_of
from bob.datasets.decoding import upright
from bob.datasets.images import Files
from bob.datasets.instances import Sample, Target
from bob.datasets.pixel_values import Ranges, rgb
from bob.errors import BobError, first_line, some
from bob.regular_files import open_regular

TOLERATED = 0.01
"""Share of annotations without area that is left out rather than refused; COCO's own train2017 has
one such box."""

KEPT_BYTES = 128 * 2**20


class CocoSplit:
    """Images and their instances.

    Args:
        content: What an annotation file holds; it is not changed.
        images: Folder of the images.
        source: File named in errors.
        masks: Whether masks are wanted.
        whole: Whether boxes that look wrong are judged by their share; not in a part of a split.

    Attributes:
        class_names: By label.
        category_ids: By label, ascending; they may have gaps.
        image_ids: By position, ascending.
        annotated: Positions of images with something to learn from.
        digest: Hex SHA-256 of the content, whatever its layout in the file.
        dataset: The content, for evaluators; ``area`` and ``iscrowd`` are filled in where missing.
        remarks: What was left out or looks odd.
        ranges: What is black and white in images of more than 8 bits.

    Raises:
        BobError: The content is not consistent, or an image is missing; names file and id.
    """

    def __init__(
        self,
        content: dict[str, Any],
        images: Path,
        *,
        source: Path,
        masks: bool = True,
        whole: bool = True,
    ) -> None:
        found = checked(content, images, source=source, masks=masks, whole=whole)
        self.source, self.folder, self.masks = source, images, masks
        self.ranges: Ranges | None = None
        self.dataset = {**content, "annotations": list(content["annotations"])}
        self._content, self._files = content, found.files
        self.digest = content_digest(content)
        categories = sorted(content["categories"], key=lambda category: int(category["id"]))
        self.category_ids = tuple(int(category["id"]) for category in categories)
        self.class_names = tuple(str(category["name"]) for category in categories)
        self._labels = {key: label for label, key in enumerate(self.category_ids)}
        self._images = sorted(content["images"], key=lambda image: int(image["id"]))
        self.image_ids = tuple(int(image["id"]) for image in self._images)
        self._instances: dict[int, list[dict[str, Any]]] = defaultdict(list)
        self.remarks = (*self._sort_annotations(whole), *found.remarks, *self._without_masks())
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
        names = [self._files.names[image["file_name"]] for image in self._images]
        return Files(self._files.folder, names)

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of the content and of the bytes of the images."""
        return split_digest(self._content, self._files)

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
        part = CocoSplit(content, self.folder, source=self.source, masks=self.masks, whole=False)
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
        return self._files.path(self._images[index]["file_name"])

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of an image."""
        return int(self._images[index]["height"]), int(self._images[index]["width"])

    def check_sizes(self) -> None:
        """Look at the heads of some images; ``remarks`` tell of orientations that are not applied.

        Raises:
            BobError: An image has another size than its entry.
        """
        places = range(len(self))
        found = check_sizes(
            [self.path(index) for index in places],
            self.image_ids,
            [self.size(index) for index in places],
            self.source,
        )
        self.remarks = tuple(dict.fromkeys((*self.remarks, *found)))

    def sample(self, index: int) -> Sample:
        """An image with its instances; boxes that stick out are clipped.

        Raises:
            BobError: The image cannot be decoded or has another size than its entry, or a mask is
                malformed.
        """
        if self._kept is not None and index in self._kept:
            return self._kept[index]
        image = self._decode(index)  # first: masks of a wrong size could take all memory
        height, width = self.size(index)
        instances = self._instances.get(self.image_ids[index], [])
        corners = [_clipped(annotation["bbox"], height, width) for annotation in instances]
        masks = None
        if self.masks:
            planes = [mask_of(annotation, (height, width), self.source) for annotation in instances]
            masks = torch.from_numpy(np.stack(planes) if planes else np.zeros((0, height, width)))
            masks = masks.bool()
        sample = Sample(
            image=image,
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
            with open_regular(path) as stream, Image.open(stream) as stored:
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
            size = (image.height, image.width)
            raise self._error(wrong_size(path, self.image_ids[index], size, (height, width)))
        array: NDArray[np.uint8] = np.array(image)
        return torch.from_numpy(array).permute(2, 0, 1).contiguous()

    def _sort_annotations(self, whole: bool) -> tuple[str, ...]:
        """Fill in what is missing and sort annotations to learn from by image."""
        sizes = {image["id"]: (int(image["height"]), int(image["width"])) for image in self._images}
        empty = []
        for place, given in enumerate(self.dataset["annotations"]):
            size = sizes[given["image_id"]]
            annotation = self._filled(given, size)
            self.dataset["annotations"][place] = annotation
            x0, y0, x1, y1 = _clipped(annotation["bbox"], *size)
            if annotation["iscrowd"]:
                continue
            if x1 <= x0 or y1 <= y0:
                empty.append(annotation["id"])
                continue
            self._instances[annotation["image_id"]].append(annotation)
        if not empty:
            return ()
        text = (
            f"{len(empty)} of {len(self.dataset['annotations'])} boxes have no area or lie outside "
            f"their image: annotation {some(empty)}"
        )
        if whole and len(empty) > TOLERATED * len(self.dataset["annotations"]):
            raise self._error(f"{text}. Correct them or take them out")
        return (f"{self.source.name}: {text}; left out",)

    def _filled(self, annotation: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
        """An annotation with ``area``, ``iscrowd`` and, where masks count, a crowd with a mask."""
        filled = {**annotation, "iscrowd": annotation.get("iscrowd") or 0}
        shape = annotation.get("segmentation")
        if self.masks and not shape:  # a crowd's, or it would have been refused
            x0, y0, x1, y1 = _clipped(annotation["bbox"], *size)
            filled["segmentation"] = [[x0, y0, x1, y0, x1, y1, x0, y1]]
        compressed = isinstance(shape, dict) and not isinstance(shape.get("counts"), list)
        if annotation.get("area") is None:
            filled["area"] = self._area(filled, size)
        elif self.masks and compressed:
            mask_area(annotation, size, self.source)  # what cannot be decoded is told now
        return filled

    def _area(self, annotation: dict[str, Any], size: tuple[int, int]) -> float:
        if annotation.get("segmentation"):
            try:
                check_segmentation(annotation, size, self.source)
                return mask_area(annotation, size, self.source)
            except BobError:
                if self.masks:
                    raise
        # Nobody asked for masks: the box will do.
        return float(annotation["bbox"][2] * annotation["bbox"][3])

    def _without_masks(self) -> tuple[str, ...]:
        counted = [entry for entry in self._content["annotations"] if not entry.get("iscrowd")]
        masks = sum(bool(entry.get("segmentation")) for entry in counted)
        if self.masks or masks in (0, len(counted)):
            return ()
        return (
            f"{self.source.name}: {masks} of {len(counted)} annotations have a mask; as not all "
            "do, masks do not count",
        )

    def _error(self, text: str) -> BobError:
        return BobError(f"{self.source}: {text}.", kind="dataset")


def _clipped(box: Sequence[float], height: int, width: int) -> list[float]:
    x, y, w, h = box
    return [max(0.0, x), max(0.0, y), min(float(width), x + w), min(float(height), y + h)]
