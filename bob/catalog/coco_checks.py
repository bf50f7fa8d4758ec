"""Whether what a COCO-format file says is of the right types and hangs together.

Standard library alone, so that a plan can ask. The functions read the content and change nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bob.catalog.coco_segmentations import check_segmentation
from bob.catalog.coco_values import encodable, error_of, number, shown, whole
from bob.errors import BobError, some

_LONGEST_SIDE = 10**6
_OTHER_KINDS = {
    "segments_info": "panoptic segments",
    "caption": "captions",
    "keypoints": "keypoints",
}


def has_masks(content: Mapping[str, Any]) -> bool:
    """Whether every annotation that is not of a crowd has a segmentation."""
    return all(
        annotation.get("segmentation") or annotation.get("iscrowd")
        for annotation in content["annotations"]
    )


def check_content(content: Mapping[str, Any], source: Path, *, masks: bool) -> None:
    """Refuse content that cannot be used.

    Args:
        content: Of an annotation file.
        source: That file.
        masks: Whether masks are wanted; segmentations are looked at only then.

    Raises:
        BobError: Names the file, the entry and what to write instead.
    """
    for kind in ("images", "annotations", "categories"):
        _check_ids(content[kind], kind, source)
    _check_categories(content["categories"], source)
    for image in content["images"]:
        _check_image(image, source)
    sizes = {
        image["id"]: (int(image["height"]), int(image["width"])) for image in content["images"]
    }
    categories = {category["id"] for category in content["categories"]}
    for annotation in content["annotations"]:
        _check_annotation(annotation, sizes, categories, source)
        if masks:
            check_segmentation(annotation, sizes[annotation["image_id"]], source)


def check_pair(
    train: Mapping[str, Any], test: Mapping[str, Any], sources: tuple[Path, Path]
) -> None:
    """Refuse splits that cannot be learnt from and scored on together.

    Args:
        train: Content that ``check_content`` has passed.
        test: Likewise.
        sources: Their files.

    Raises:
        BobError: The categories differ, or a split has no annotation besides crowds.
    """
    named = [
        {category["id"]: str(category["name"]) for category in content["categories"]}
        for content in (train, test)
    ]
    if named[0] != named[1]:
        differing = sorted(set(named[0].items()) ^ set(named[1].items()))
        raise BobError(
            f"{sources[1]} and {sources[0]} differ in their categories: {some(differing)}. "
            "Give both files the same list.",
            kind="dataset",
        )
    check_instances(train, sources[0], "learn from")
    check_instances(test, sources[1], "score on")


def check_instances(content: Mapping[str, Any], source: Path, purpose: str) -> None:
    """Refuse a split of which no annotation counts.

    Args:
        content: Content that ``check_content`` has passed.
        source: Its file.
        purpose: What is wanted of it, such as ``"score on"``.

    Raises:
        BobError: There is no image, or no annotation besides crowds.
    """
    if not content["images"]:
        raise error_of(source, f"its list of images is empty: there is nothing to {purpose}")
    if all(annotation.get("iscrowd") for annotation in content["annotations"]):
        crowds = len(content["annotations"])
        found = f"all {crowds} annotations are of crowds" if crowds else "it has no annotation"
        raise error_of(
            source, f"{found}: there is nothing to {purpose}. Name a file with annotated objects"
        )


def _check_ids(rows: Sequence[Any], kind: str, source: Path) -> None:
    for row in rows:
        if isinstance(row, dict) and whole(row.get("id")):
            continue
        hint = "Give it one"
        if isinstance(row, dict) and isinstance(row.get("id"), str | float):
            hint = f"Its id is {shown(row['id'])}: write it without quotes or decimal point"
        elif isinstance(row, dict):
            hint = next((f"These are {what}: name a file of instances"
                         for mark, what in _OTHER_KINDS.items() if mark in row), hint)  # fmt: skip
        raise error_of(
            source, f"an entry of {kind} has no whole number as id: {str(row)[:80]}. {hint}"
        )
    twice = [key for key, count in Counter(row["id"] for row in rows).items() if count > 1]
    if twice:
        raise error_of(source, f"{kind} id {twice[0]} is given more than once. Number them anew")


def _check_categories(categories: Sequence[Mapping[str, Any]], source: Path) -> None:
    if not categories:
        raise error_of(
            source, "its list of categories is empty. List each class with its id and name"
        )
    for category in categories:
        name = category.get("name")
        if not (whole(name) or (isinstance(name, str) and name.strip() and encodable(name))):
            raise error_of(
                source, f"category {category['id']} has no name but {shown(name)}. Give it one"
            )
    names = Counter(str(category["name"]) for category in categories)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        keys = [category["id"] for category in categories if str(category["name"]) == twice[0]]
        raise error_of(
            source,
            f"the category name {twice[0]!r} is given {len(keys)} times, with ids {some(keys)}. "
            "Give each class one entry and one id",
        )


def _check_image(image: Mapping[str, Any], source: Path) -> None:
    key = image["id"]
    if not {"file_name", "height", "width"} <= image.keys():
        raise error_of(source, f"image {key} lacks file_name, height or width. Add it")
    name = image["file_name"]
    if not isinstance(name, str) or not name or not encodable(name):
        raise error_of(source, f"image {key}: file_name is {shown(name)}. Write a file's name")
    size = (image["height"], image["width"])
    if not all(
        number(side) and float(side).is_integer() and 0 < side <= _LONGEST_SIDE for side in size
    ):
        raise error_of(
            source, f"image {key}: height and width are {shown(size)}. Write whole pixels"
        )


def _check_annotation(
    annotation: Mapping[str, Any],
    sizes: Mapping[int, tuple[int, int]],
    categories: set[int],
    source: Path,
) -> None:
    key, image, category = (annotation.get(name) for name in ("id", "image_id", "category_id"))
    if not whole(image) or image not in sizes:
        remedy = "Add the image's entry, or take the annotation out"
        if not whole(image):
            remedy = "Write the image's id, a whole number without quotes or decimal point"
        raise error_of(source, f"annotation {key} is of an unknown image {shown(image)}. {remedy}")
    if not whole(category) or category not in categories:
        remedy = "Add it to categories, or take the annotation out"
        if not whole(category):
            remedy = "Write a category's id, a whole number without quotes or decimal point"
        raise error_of(
            source,
            f"annotation {key} is of an unknown category {shown(category)}; known: "
            f"{some(sorted(categories))}. {remedy}",
        )
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(number(value) for value in box):
        raise error_of(
            source,
            f"annotation {key}: bbox {shown(box)} is not four finite numbers. Write x, y, width, "
            "height, without quotes",
        )
    crowd, area = annotation.get("iscrowd"), annotation.get("area")
    if crowd is not None and not (whole(crowd) and crowd in (0, 1)):
        raise error_of(source, f"annotation {key}: iscrowd is {shown(crowd)}. Write 0 or 1")
    if area is not None and not (number(area) and area >= 0):
        raise error_of(
            source,
            f"annotation {key}: area is {shown(area)}. Write pixels as a number, or leave it out",
        )
