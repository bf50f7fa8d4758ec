"""Datasets whose splits are lists of files: VisDA-2017, SUN397 and iNaturalist 2019."""

from __future__ import annotations

from pathlib import Path

from bob.catalog.coco_folder import read_annotations
from bob.catalog.data_root import data_root, located
from bob.datasets.base import ClassificationData
from bob.datasets.library.common import Listing, assembled, lines, refused


def load_visda() -> ClassificationData:
    """Load VisDA-2017: synthetic images to learn from, real ones to score on.

    Lines of ``image_list.txt`` are ``<class>/<image> <number>``.

    Raises:
        BobError: It is not there (``kind`` is ``unavailable``), or a list is malformed.
    """
    train, names = _image_list(located("visda2017/train/image_list.txt"))
    test, test_names = _image_list(located("visda2017/validation/image_list.txt"))
    if names != test_names:
        raise refused(
            f"The image_list.txt of VisDA-2017's train and validation differ in their classes: "
            f"{sorted(names.items())} and {sorted(test_names.items())}. Unpack both again."
        )
    if sorted(names) != list(range(len(names))):
        raise refused(f"VisDA-2017 has classes {sorted(names)}; they should count from 0.")
    ordered = [names[index] for index in sorted(names)]
    return assembled("VisDA-2017", ordered, train.split(), test.split())


def _image_list(file: Path) -> tuple[Listing, dict[int, str]]:
    folder = file.parent.relative_to(data_root()).as_posix()
    paths: list[str] = []
    labels: list[int] = []
    names: dict[int, str] = {}
    for number, line in enumerate(lines(file), start=1):
        if not line:
            continue
        path, _, label = line.rpartition(" ")
        kind = path.split("/", 1)[0]
        if not label.isdecimal() or "/" not in path or names.setdefault(int(label), kind) != kind:
            raise refused(f"{file}:{number}: {line!r} is not '<class>/<image> <class number>'.")
        paths.append(f"{folder}/{path}")
        labels.append(int(label))
    return Listing(paths, labels), names


def load_sun397(*, partition: int = 1) -> ClassificationData:
    """Load SUN397 in one of its ten official partitions of 50 + 50 images a class.

    Args:
        partition: 1 to 10.

    Raises:
        BobError: It is not there (``kind`` is ``unavailable``), or a list is malformed.
    """
    root = located("SUN397")
    kinds = [line for line in lines(root / "ClassName.txt") if line]
    index = {line: place for place, line in enumerate(kinds)}
    parts = []
    for word in ("Training", "Testing"):
        file = f"{word}_{partition:02d}.txt"
        source = located(f"SUN397/Partitions/{file}|SUN397/{file}")
        images = [line for line in lines(source) if line]
        strange = [line for line in images if line.rpartition("/")[0] not in index]
        if strange:
            raise refused(
                f"{source}: {strange[0]!r} is of no class of {root / 'ClassName.txt'}, whose lines "
                "are such as /a/abbey."
            )
        labels = [index[line.rpartition("/")[0]] for line in images]
        parts.append(Listing([f"SUN397{line}" for line in images], labels))
    names = [line[3:] for line in kinds]  # past the letter: /a/apse/indoor is apse/indoor
    return assembled("SUN397", names, parts[0].split(), parts[1].split())


def load_inat2019() -> ClassificationData:
    """Load iNaturalist 2019: the images of ``train2019.json``, scored on ``val2019.json``'s.

    Raises:
        BobError: It is not there (``kind`` is ``unavailable``), or a list is malformed.
    """
    files = {part: located(f"inat2019/{part}2019.json") for part in ("train", "val")}
    content = {part: read_annotations(file) for part, file in files.items()}
    try:
        names = {
            category["id"]: str(category["name"]) for category in content["train"]["categories"]
        }
        order = sorted(names)
        index = {category: place for place, category in enumerate(order)}
        parts = {}
        for part, data in content.items():
            paths = {image["id"]: f"inat2019/{image['file_name']}" for image in data["images"]}
            rows = sorted((paths[annotation["image_id"]], index[annotation["category_id"]])
                          for annotation in data["annotations"])  # fmt: skip
            parts[part] = Listing([path for path, _ in rows], [label for _, label in rows])
    except KeyError as error:
        raise refused(
            f"{files[part]}: an image, annotation or category lacks or does not know {error}. "
            "Download the file again."
        ) from None
    class_names = [names[category] for category in order]
    return assembled("iNaturalist 2019", class_names, parts["train"].split(), parts["val"].split())
