"""Public datasets in miniature, in their owners' layout on disk.

The red level of an image tells its class, so that images and labels that were mixed up show.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

STEP = 18
_OTHERS = (f"n9000000{index}" for index in range(7))
WNIDS = ("n01440764", "n01443537", "n01484850", "n02012849", "n03126707", *_OTHERS)
"""Five of ImageNet's, two of them called crane, and seven of nobody's: V2 counts past 9."""


def pixels(label: int, position: int = 0) -> np.ndarray:
    """An image of a class, ``(height, width, 3)``, of a size of its own."""
    image = np.zeros((41 + 2 * position % 7, 36 + 5 * position % 11, 3), np.uint8)
    image[..., 0] = 20 + STEP * label
    image[..., 1] = 128
    image[..., 2] = 60 + position
    return image


def picture(path: Path, label: int, position: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    form = "PNG" if path.suffix == ".png" else "JPEG"
    Image.fromarray(pixels(label, position)).save(path, form)


@dataclass(frozen=True)
class Mini:
    """What a miniature holds: number of classes, and labels in the order they must come in."""

    classes: int
    train: Sequence[int]
    test: Sequence[int]


def folders(root: Path, names: Sequence[str], count: int, ext: str, first: int = 0) -> list[int]:
    for label, name in enumerate(names):
        for index in range(count):
            picture(root / name / f"{name}_{index}{ext}", label, first + index)
    return sorted(list(range(len(names))) * count)


def imagenet(root: Path) -> Mini:
    train = folders(root / "imagenet/train", WNIDS, 3, ".JPEG")
    test = folders(root / "imagenet/val", WNIDS, 2, ".JPEG", 3)
    return Mini(len(WNIDS), train, test)


def imagenet_1pct(root: Path, percent: str = "1") -> Mini:
    mini = imagenet(root)
    names = [f"{wnid}_{index}.JPEG" for index in (2, 0) for wnid in reversed(WNIDS)]
    (root / f"imagenet/{percent}percent.txt").write_text("\n".join(names) + "\n")
    return Mini(mini.classes, [*reversed(range(len(WNIDS)))] * 2, mini.test)


def imagenet_10pct(root: Path) -> Mini:
    return imagenet_1pct(root, "10")


def imagenet_shifted(root: Path, *keys: str) -> Mini:
    mini = imagenet(root)
    for key in keys:
        if key == "imagenet_v2":
            place = root / "imagenetv2-matched-frequency-format-val"
            folders(place, [str(index) for index in range(len(WNIDS))], 2, ".jpeg", 6)
        elif key == "imagenet_sketch":
            folders(root / "sketch", WNIDS, 2, ".JPEG", 6)
        else:
            for label in (1, 4, 7):
                for index in range(2):
                    place = root / key.replace("_", "-") / WNIDS[label]
                    picture(place / f"{index}.jpg", label, 6 + index)
            (root / key.replace("_", "-") / "README.txt").write_text("of the owners")
    return mini


def cifar(root: Path, patch: pytest.MonkeyPatch, hundred: bool) -> Mini:
    owner = datasets.CIFAR100 if hundred else datasets.CIFAR10
    folder = root / owner.base_folder
    folder.mkdir()
    labels = {"train": [0, 1, 2] * 2, "test": [2, 1, 0]}

    def dump(name: str, content: dict[str, Any]) -> str:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return hashlib.md5(data, usedforsecurity=False).hexdigest()

    for part, attribute in (("train", "train_list"), ("test", "test_list")):
        files = [name for name, _ in getattr(owner, attribute)]
        sums = []
        for name in files:
            rows = [
                np.full((32, 32, 3), 0, np.uint8) + pixels(label)[:1, :1] for label in labels[part]
            ]
            planes = np.stack(rows).transpose(0, 3, 1, 2).reshape(len(rows), -1)
            key = "fine_labels" if hundred else "labels"
            sums.append([name, dump(name, {"data": planes, key: labels[part]})])
        patch.setattr(owner, attribute, sums)
        labels[part] = labels[part] * len(files)
    meta = dict(owner.meta)
    meta["md5"] = dump(meta["filename"], {meta["key"]: ["apple", "bear", "chair"]})
    patch.setattr(owner, "meta", meta)
    return Mini(3, labels["train"], labels["test"])


def flowers(root: Path, patch: pytest.MonkeyPatch, paper: bool) -> Mini:
    folder = root / "flowers-102"
    labels = [2, 0, 1, 0, 1, 2, 1, 2, 0]
    for number, label in enumerate(labels, start=1):
        picture(folder / f"jpg/image_{number:05d}.jpg", label, number)
    ids = {"trnid": [3, 1, 2], "valid": [4, 5, 6], "tstid": [9, 8, 7]}
    savemat(folder / "imagelabels.mat", {"labels": np.array([labels], np.uint8) + 1})
    savemat(folder / "setid.mat", {key: np.array([numbers]) for key, numbers in ids.items()})
    known = dict(datasets.Flowers102._file_dict)
    for key in ("label", "setid"):
        name = known[key][0]
        data = (folder / name).read_bytes()
        known[key] = (name, hashlib.md5(data, usedforsecurity=False).hexdigest())
    patch.setattr(datasets.Flowers102, "_file_dict", known)
    own = {key: [labels[number - 1] for number in numbers] for key, numbers in ids.items()}
    if paper:
        return Mini(102, own["trnid"], own["valid"])
    return Mini(102, own["trnid"] + own["valid"], own["tstid"])


def aircraft(root: Path) -> Mini:
    folder = root / "fgvc-aircraft-2013b/data"
    names = ["Boeing 707-320", "DC-10", "F-16A/B"]
    folder.mkdir(parents=True)
    (folder / "variants.txt").write_text("\n".join(names) + "\n")
    labels = {"trainval": [2, 1, 0, 1, 2, 0], "test": [0, 2, 1]}
    for part, part_labels in labels.items():
        lines = []
        for index, label in enumerate(part_labels):
            name = f"{len(part)}{index:06d}"
            picture(folder / f"images/{name}.jpg", label, index)
            lines.append(f"{name} {names[label]}")
        (folder / f"images_variant_{part}.txt").write_text("\n".join(lines) + "\n")
    return Mini(3, labels["trainval"], labels["test"])


def eurosat(root: Path) -> Mini:
    folders(root / "eurosat/2750", ["AnnualCrop", "Forest", "River"], 5, ".jpg")
    return Mini(3, sorted([0, 1, 2] * 4), [0, 1, 2])


def inat2019(root: Path) -> Mini:
    folder = root / "inat2019"
    kinds = [("Birds", 1), ("Plants", 0), ("Birds", 2)]
    categories = [{"id": number, "name": f"species {number}"} for _, number in kinds]
    for part, count in (("train", 3), ("val", 1)):
        images, annotations = [], []
        for group, number in kinds:
            for index in range(count):
                name = f"train_val2019/{group}/{number}/{part}{index}.jpg"
                picture(folder / name, number, index)
                images.append({"id": 10 + len(images), "file_name": name})
                annotations.append({"id": len(images), "image_id": images[-1]["id"],
                                    "category_id": number})  # fmt: skip
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{part}2019.json").write_text(json.dumps(content))
    return Mini(3, [1] * 3 + [2] * 3 + [0] * 3, [1, 2, 0])


def inat2021(root: Path, train: str = "train", test: str = "val") -> Mini:
    names = [f"{n:05d}_Animalia_Chordata_Aves_Order_Family_Genus_{n}" for n in range(3)]
    learn = folders(root / "inat2021" / train, names, 3, ".jpg")
    return Mini(3, learn, folders(root / "inat2021" / test, names, 2, ".jpg", 3))


def inat2021_mini(root: Path) -> Mini:
    return inat2021(root, "2021_train_mini", "2021_valid")


def semi_inat(root: Path) -> Mini:
    names = [str(index) for index in range(11)]
    learn = folders(root / "semi_inat/l_train", names, 2, ".jpg")
    return Mini(11, learn, folders(root / "semi_inat/val", names, 1, ".jpg", 3))


def visda2017(root: Path) -> Mini:
    names = ["aeroplane", "bicycle", "bus"]
    labels = {"train": [1, 0, 2, 2, 0, 1], "validation": [2, 0, 1]}
    for part, part_labels in labels.items():
        lines = []
        for index, label in enumerate(part_labels):
            name = f"{names[label]}/image {index}.{'png' if part == 'train' else 'jpg'}"
            picture(root / "visda2017" / part / name, label, index)
            lines.append(f"{name} {label}")
        (root / "visda2017" / part / "image_list.txt").write_text("\n".join(lines) + "\n")
    return Mini(3, labels["train"], labels["validation"])


def dtd(root: Path) -> Mini:
    folder = root / "dtd/dtd"
    names = ["banded", "knitted", "zigzagged"]
    (folder / "labels").mkdir(parents=True)
    for part in ("train", "val", "test"):
        lines = []
        for label, name in enumerate(names):
            picture(folder / f"images/{name}/{name}_{part}.jpg", label, len(part))
            lines.append(f"{name}/{name}_{part}.jpg")
        (folder / f"labels/{part}1.txt").write_text("\n".join(lines) + "\n")
    return Mini(3, [0, 1, 2] * 2, [0, 1, 2])


def pets(root: Path) -> Mini:
    folder = root / "oxford-iiit-pet"
    names = ["Abyssinian", "american_bulldog", "Bengal"]
    labels = {"trainval": [0, 0, 1, 1, 2], "test": [2, 0, 1]}
    (folder / "annotations").mkdir(parents=True)
    for part, part_labels in labels.items():
        lines = []
        for index, label in enumerate(part_labels):
            name = f"{names[label]}_{len(part)}{index}"
            picture(folder / f"images/{name}.jpg", label, index)
            lines.append(f"{name} {label + 1} {1 + (label == 1)} 1")
        (folder / f"annotations/{part}.txt").write_text("\n".join(lines) + "\n")
    return Mini(3, labels["trainval"], labels["test"])


def food101(root: Path) -> Mini:
    folder = root / "food-101"
    names = ["waffles", "apple_pie", "sushi"]
    (folder / "meta").mkdir(parents=True)
    for part, count in (("train", 2), ("test", 1)):
        content = {name: [f"{name}/{part}{index}" for index in range(count)] for name in names}
        for name, images in content.items():
            for image in images:
                picture(folder / f"images/{image}.jpg", sorted(names).index(name))
        (folder / f"meta/{part}.json").write_text(json.dumps(content))
    return Mini(3, [2, 2, 0, 0, 1, 1], [2, 0, 1])


def sun397(root: Path) -> Mini:
    folder = root / "SUN397"
    names = ["/a/abbey", "/a/apse/indoor", "/z/zen_garden"]
    (folder / "Partitions").mkdir(parents=True)
    (folder / "ClassName.txt").write_text("\n".join(names) + "\n")
    for part, count in (("Training", 2), ("Testing", 1)):
        lines = [f"{name}/sun_{part}{index}.jpg" for name in names for index in range(count)]
        for index, line in enumerate(lines):
            picture(folder / line[1:], index // count)
        (folder / f"Partitions/{part}_01.txt").write_text("\n".join(lines) + "\n")
    return Mini(3, [0, 0, 1, 1, 2, 2], [0, 1, 2])


def pcam(root: Path) -> Mini:
    h5py = pytest.importorskip("h5py")
    labels = {"train": [1, 0, 0, 1], "test": [0, 1, 1]}
    (root / "pcam").mkdir()
    for part, part_labels in labels.items():
        start = root / f"pcam/camelyonpatch_level_2_split_{part}"
        rows = [np.zeros((96, 96, 3), np.uint8) + pixels(label)[:1, :1] for label in part_labels]
        with h5py.File(f"{start}_x.h5", "w") as file:
            file["x"] = np.stack(rows)
        with h5py.File(f"{start}_y.h5", "w") as file:
            file["y"] = np.array(part_labels, np.uint8).reshape(-1, 1, 1, 1)
    return Mini(2, labels["train"], labels["test"])


def cars(root: Path) -> Mini:
    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    names = np.array(["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "BMW M3"], object)
    savemat(folder / "devkit/cars_meta.mat", {"class_names": names})
    labels = {"train": [2, 0, 1, 1, 0, 2], "test": [1, 2, 0]}
    places = {"train": "devkit/cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}
    form = [("bbox_x1", "O"), ("class", "O"), ("fname", "O")]
    for part, part_labels in labels.items():
        rows = []
        for index, label in enumerate(part_labels, start=1):
            picture(folder / f"cars_{part}/{index:05d}.jpg", label, index)
            rows.append((1, np.uint8(label + 1), f"{index:05d}.jpg"))
        savemat(folder / places[part], {"annotations": np.array([rows], form)})
    return Mini(3, labels["train"], labels["test"])


COLUMNS = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,"
    "Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,"
    "Pleural Effusion,Pleural Other,Fracture,Support Devices"
)


def chexpert(root: Path, columns: str = COLUMNS) -> None:
    """Four findings that grey levels tell, and Consolidation on no test image."""
    folder = root / "chexpert/CheXpert-v1.0-small"
    rows = {"train": 24, "valid": 12}
    for part, count in rows.items():
        lines = [columns]
        for index in range(count):
            view = "Lateral" if index % 4 == 3 else "Frontal"
            path = f"{part}/patient{index:05d}/study1/view1_{view.lower()}.jpg"
            shown = index % 2
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (39, 32 + index), 40 + 160 * shown).save(file)
            unsure = "-1.0" if part == "train" and index == 2 else f"{shown}.0"
            clear = "0.0" if shown else "1.0"
            lines.append(
                f"CheXpert-v1.0-small/{path},Female,60,{view},AP,,,{unsure},,,{unsure},"
                f"{'1.0' if part == 'train' and shown else ''},,{clear},,{shown}.0,,,"
            )
        (folder / f"{part}.csv").write_text("\n".join(lines) + "\n")


BUILDERS: dict[str, Callable[[Path, pytest.MonkeyPatch], Mini]] = {
    "cifar10": lambda root, patch: cifar(root, patch, False),
    "cifar100": lambda root, patch: cifar(root, patch, True),
    "flowers102": lambda root, patch: flowers(root, patch, False),
    "flowers102_paper": lambda root, patch: flowers(root, patch, True),
    **{
        builder.__name__: lambda root, patch, builder=builder: builder(root)  # type: ignore[misc]
        for builder in (
            imagenet, imagenet_1pct, imagenet_10pct, aircraft, eurosat, inat2019, inat2021,
            inat2021_mini, semi_inat, visda2017, dtd, pets, food101, sun397, pcam, cars,
        )
    },
}  # fmt: skip

SHARES = {
    "cifar10_5k": "cifar10",
    "dtd_2k": "dtd",
    "eurosat_4k": "eurosat",
    "flowers102_2k": "flowers102",
    "pets_2k": "pets",
}
"""Datasets that are the first images of each class of another."""
