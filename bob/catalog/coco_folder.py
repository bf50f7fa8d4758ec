"""Where a COCO-format folder keeps annotations and images, and what they say.

Standard library alone, so that a plan can ask.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bob.catalog.coco_boxes import check_boxes
from bob.catalog.coco_checks import check_content, check_pair, has_masks
from bob.catalog.coco_files import ImageFiles, find_images
from bob.errors import BobError, first_line
from bob.file_digests import digests_of_files
from bob.json_data import parse_json
from bob.regular_files import read_regular

_NAMES = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_YEARS = ("2017", "2014", "")


@dataclass(frozen=True)
class Part:
    """One split on disk.

    Attributes:
        annotations: Its JSON file.
        images: Folder that its file names are relative to.
    """

    annotations: Path
    images: Path


def find_parts(folder: Path) -> tuple[Part, Part]:
    """The train split and the one to test on: ``val`` where there is one, else ``test``.

    Known layouts: COCO's own (``annotations/instances_train2017.json`` and ``train2017/``), the
    same without year, annotation files beside the image folders, and Roboflow's
    (``train/_annotations.coco.json``).

    Raises:
        BobError: There is no such folder (``kind`` is ``unavailable``) or no such split in it.
    """
    if not folder.is_dir():
        raise BobError(
            f"No folder {folder}. Name one that holds annotations/instances_train.json, "
            "annotations/instances_val.json and their images.",
            kind="unavailable",
        )
    train = _find(folder, "train")
    test = _find(folder, "val") or _find(folder, "test")
    for what, part in (("train", train), ("val or test", test)):
        if part is None:
            looked = ", ".join(
                ("annotations/instances_train2017.json", "annotations/instances_train.json",
                 "annotations/train.json", "train.json", "train/_annotations.coco.json")
            )  # fmt: skip
            raise BobError(
                f"{folder} has no {what} split in COCO's format. Looked for {looked} (val, valid "
                "and test alike), with images in train2017/, train/, images/train/ or images/.",
                kind="dataset",
            )
    assert train is not None
    assert test is not None
    return train, test


def _find(folder: Path, split: str) -> Part | None:
    for name in _NAMES[split]:
        roboflow = folder / name / "_annotations.coco.json"
        if roboflow.is_file():
            return Part(roboflow, roboflow.parent)
        for year in _YEARS:
            for pattern in ("annotations/instances_{}.json", "annotations/{}.json", "{}.json"):
                file = folder / pattern.format(name + year)
                if file.is_file():
                    places = (folder / (name + year), folder / "images" / (name + year),
                              folder / "images", folder)  # fmt: skip
                    return Part(file, next(place for place in places if place.is_dir()))
    return None


def read_annotations(file: Path) -> dict[str, Any]:
    """The content of an annotation file.

    Raises:
        BobError: It cannot be read, is not JSON, or has no images, annotations and categories.
    """
    try:
        content = parse_json(read_regular(file))
    except OSError as error:
        raise BobError(f"Cannot read {file}: {error}", kind="dataset") from None
    except json.JSONDecodeError as error:
        raise BobError(
            f"{file}:{error.lineno}: not valid JSON: {error.msg}.", kind="dataset"
        ) from None
    except UnicodeDecodeError as error:
        raise BobError(f"{file} is not text: {error}.", kind="dataset") from None
    except ValueError as error:
        raise BobError(
            f"{file} cannot be read as JSON: {first_line(error)}.", kind="dataset"
        ) from None
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise BobError(
                f"{file} has no list of {key}: expected COCO's format, an object with images, "
                "annotations and categories.",
                kind="dataset",
            )
        odd = [entry for entry in content[key] if not isinstance(entry, dict)]
        if odd:
            raise BobError(
                f"{file}: an entry of {key} is not an object but {str(odd[0])[:80]}. Write it as "
                "COCO's format does.",
                kind="dataset",
            )
    typed: dict[str, Any] = content
    return typed


def content_digest(content: dict[str, Any]) -> str:
    """Hex SHA-256 of images, categories and annotations, whatever their layout in the file."""
    keys = ("images", "annotations", "categories")
    parts = {key: sorted(content[key], key=lambda entry: str(entry.get("id"))) for key in keys}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Checked:
    """What is known of content that can be used.

    Attributes:
        files: Of its images.
        remarks: What is odd and can be lived with.
    """

    files: ImageFiles
    remarks: tuple[str, ...]


def checked(
    content: dict[str, Any], images: Path, *, source: Path, masks: bool, whole: bool = True
) -> Checked:
    """Check everything that can be checked without opening an image.

    Args:
        content: Of the annotation file; it is not changed.
        images: Folder of the images.
        source: The file, named in errors.
        masks: Whether masks are wanted.
        whole: Whether the form of the boxes is judged; not for a part of what was checked.

    Raises:
        BobError: Names the file, the entry and the remedy.
    """
    check_content(content, source, masks=masks)
    files = find_images(content["images"], images, source)
    return Checked(files, (*files.remarks, *(check_boxes(content, source) if whole else ())))


def split_digest(content: dict[str, Any], files: ImageFiles) -> str:
    """Hex SHA-256 of what an annotation file says and of the bytes of the images it names."""
    names = sorted({image["file_name"] for image in content["images"]})
    sums = digests_of_files([files.path(name) for name in names])
    digest = hashlib.sha256(content_digest(content).encode())
    for name, sha256 in zip(names, sums, strict=True):
        digest.update(f"{name}\0{sha256}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def joint_digest(train: str, test: str) -> str:
    """Digest of a dataset from those of its splits."""
    return hashlib.sha256((train + test).encode()).hexdigest()


def coco_facts(folder: Path) -> tuple[str, int, int, int, bool]:
    """What a plan must know of a folder.

    Returns:
        Digest, number of classes, number of train and of test images, and whether every annotation
        that is not of a crowd has a mask.

    Raises:
        BobError: A run would refuse the folder; images themselves are not opened.
    """
    parts = find_parts(folder)
    train, test = contents = [read_annotations(part.annotations) for part in parts]
    masks = all(map(has_masks, contents))
    looked_at = [
        checked(content, part.images, source=part.annotations, masks=masks)
        for content, part in zip(contents, parts, strict=True)
    ]
    check_pair(train, test, (parts[0].annotations, parts[1].annotations))
    digests = [
        split_digest(content, found.files)
        for content, found in zip(contents, looked_at, strict=True)
    ]
    return (
        joint_digest(*digests),
        len(train["categories"]),
        len(train["images"]),
        len(test["images"]),
        masks,
    )
