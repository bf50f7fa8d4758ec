"""ImageNet-1k (ILSVRC 2012), its low-shot lists, and the test sets that shift away from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from timm.data import ImageNetInfo

from bob.catalog.data_root import data_root, located
from bob.datasets.base import ClassificationData, Shift, ShiftData
from bob.datasets.images import ImageSplit
from bob.datasets.library.common import Listing, assembled, dataset_digest, lines, refused
from bob.datasets.library.folders import class_folders, listing, same_folders
from bob.errors import some, unknown

TRAIN, VAL = "imagenet/train", "imagenet/val"


@dataclass(frozen=True)
class Variant:
    """A shifted test set.

    Attributes:
        places: Folder of class folders below the data root, ``a|b`` is either.
        classes: Of ImageNet's 1,000, as published.
        images: As published.
        numbered: Whether class folders are named by index rather than by wnid.
    """

    places: str
    classes: int
    images: int
    numbered: bool = False


VARIANTS = {
    "imagenet_a": Variant("imagenet-a", 200, 7_500),
    "imagenet_r": Variant("imagenet-r", 200, 30_000),
    "imagenet_v2": Variant("imagenetv2-matched-frequency-format-val", 1000, 10_000, numbered=True),
    "imagenet_sketch": Variant("imagenet-sketch|sketch", 1000, 50_889),
}


def load(*, subset: str = "", learn: bool = True) -> ClassificationData:
    """Load ImageNet: train to learn from, val to score on; classes are the sorted wnids.

    Args:
        subset: List of the train images to learn from, below the data root, one file name a line;
            empty for all of them.
        learn: Whether anything is learnt; if not, the train split is empty and need not be there.

    Raises:
        BobError: A part is missing (``kind`` is ``unavailable``) or not in its official layout.
    """
    val = located(VAL)
    wnids = class_folders(val)
    classes = {wnid: index for index, wnid in enumerate(wnids)}
    if not learn:
        return _val_alone(wnids, listing(val, classes).split())
    train = located(TRAIN)
    if subset:
        chosen = _subset(located(subset), train, classes)
    else:
        same_folders(class_folders(train), wnids, train, val)
        chosen = listing(train, classes)
    test = listing(val, classes)
    return assembled("ImageNet", readable(wnids), chosen.split(), test.split())


def _val_alone(wnids: Sequence[str], test: ImageSplit) -> ClassificationData:
    names = tuple(readable(wnids))
    if not len(test):
        raise refused(f"{located(VAL)} holds no images. Unpack it again.")
    return ClassificationData(
        sha256=dataset_digest(names, (test,)),
        class_names=names,
        train=Listing([], []).split(),
        test=test,
    )


def load_shifted(*, variants: str, complete: bool = True, learn: bool = True) -> ShiftData:
    """Load ImageNet as the source and some of its variants as shifts.

    Args:
        variants: Keys of ``VARIANTS`` with spaces between.
        complete: Whether a variant must have its published numbers of classes and images. What is
            missing of ImageNet-A or -R would make it easier: fewer classes to confuse.
        learn: As of ``load``.

    Raises:
        BobError: A part is missing (``kind`` is ``unavailable``) or not in its official layout, or
            a variant is unknown or not complete.
    """
    keys = variants.split()
    for key in keys:
        if key not in VARIANTS:
            raise unknown("variant", key, VARIANTS)
    folders = {key: located(VARIANTS[key].places) for key in keys}
    source = load(learn=learn)
    wnids = class_folders(located(VAL))
    shifts = tuple(_shift(key, folders[key], wnids, complete) for key in keys)
    splits = (source.train, source.test, *(shift.split for shift in shifts))
    return ShiftData(
        sha256=dataset_digest(source.class_names, splits),
        class_names=source.class_names,
        train=source.train,
        test=source.test,
        shifts=shifts,
    )


def readable(wnids: Sequence[str]) -> list[str]:
    """A name for each wnid: the first of WordNet's words, the wnid where that is not unique."""
    info = ImageNetInfo("imagenet-1k")
    known = set(info.label_names())
    words = [
        info.label_name_to_description(wnid).split(",")[0] if wnid in known else wnid
        for wnid in wnids
    ]
    count = Counter(words)
    return [
        word if count[word] == 1 else f"{word} ({wnid})"
        for word, wnid in zip(words, wnids, strict=True)
    ]


def _subset(file: Path, train: Path, classes: dict[str, int]) -> Listing:
    names, labels = [], []
    for number, name in enumerate(lines(file), start=1):
        if not name:
            continue
        wnid = name.split("_", 1)[0]
        if wnid not in classes:
            raise refused(
                f"{file}:{number}: {name!r} is of no class of {located(VAL)}. Lines are file "
                "names such as n01440764_10026.JPEG."
            )
        names.append(f"{TRAIN}/{wnid}/{name}")
        labels.append(classes[wnid])
    absent = [name for name in names if not (data_root() / name).is_file()]
    if absent:
        raise refused(
            f"{file} names {len(absent)} images that are not in {train}: {some(absent)}. Unpack "
            "the train archive again."
        )
    return Listing(names, labels)


def _shift(key: str, folder: Path, wnids: Sequence[str], complete: bool) -> Shift:
    variant = VARIANTS[key]
    names = [str(index) for index in range(len(wnids))] if variant.numbered else list(wnids)
    known = {name: index for index, name in enumerate(names)}
    held = class_folders(folder)
    strange = [name for name in held if name not in known]
    if strange:
        raise refused(f"{folder} has class folders that ImageNet's val has not: {some(strange)}.")
    listed = listing(folder, {name: known[name] for name in held})
    if complete and (len(held), len(listed.names)) != (variant.classes, variant.images):
        raise refused(
            f"{folder} holds {len(held):,} classes and {len(listed.names):,} images, published are "
            f"{variant.classes:,} and {variant.images:,}. Unpack it again."
        )
    classes = tuple(sorted(known[name] for name in held))
    return Shift(
        name=key,
        group=key,
        split=listed.split(),
        classes=() if len(classes) == len(wnids) else classes,
    )
