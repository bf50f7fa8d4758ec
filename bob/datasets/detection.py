"""Detection datasets: train and test splits in COCO's format, and shifted targets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bob.catalog.coco_checks import check_pair
from bob.catalog.coco_folder import find_parts, joint_digest
from bob.catalog.data_root import data_root
from bob.catalog.value_range import parse_range
from bob.datasets.coco import CocoSplit
from bob.datasets.ranges import measured
from bob.errors import BobError


@dataclass(frozen=True, kw_only=True)
class DetectionData:
    """Images to learn to detect on, and to score on.

    Attributes:
        sha256: Digest of everything the splits are made from.
        class_names: By label.
        notes: What a reader of the scores should know of the data.
    """

    sha256: str
    class_names: tuple[str, ...]
    train: CocoSplit
    test: CocoSplit
    notes: tuple[str, ...] = ()

    @property
    def test_size(self) -> int:
        """Images that scores are read on."""
        return len(self.test)


@dataclass(frozen=True)
class DetectionShift:
    """Images of the source's classes from elsewhere."""

    name: str
    split: CocoSplit


@dataclass(frozen=True, kw_only=True)
class DetectionShiftData:
    """A source to learn on and shifted targets to read the same detector on.

    Attributes:
        test: The source's own test split, where it has one.
        notes: What a reader of the scores should know of the data.
    """

    sha256: str
    class_names: tuple[str, ...]
    train: CocoSplit
    test: CocoSplit | None
    shifts: tuple[DetectionShift, ...]
    notes: tuple[str, ...] = ()

    @property
    def test_size(self) -> int:
        """Images of all targets."""
        return sum(len(shift.split) for shift in self.shifts)


def load_coco(*, path: str, masks: bool = True, range: str = "") -> DetectionData:
    """Load a folder in COCO's format; see ``bob.catalog.coco_folder.find_parts``.

    Args:
        path: The folder.
        masks: Whether masks are wanted.
        range: Values that are black and white in images of more than 8 bits, as ``LOW:HIGH``;
            measured unless given.

    Raises:
        BobError: The folder or a split is missing, an annotation file is not consistent or its
            boxes are of another form, there is nothing to learn from or to score on, images are of
            another size than their entries say, or the splits differ in their categories.
    """
    first, second = find_parts(Path(path))
    train = CocoSplit.read(first.annotations, first.images, masks=masks)
    test = CocoSplit.read(second.annotations, second.images, masks=masks)
    check_pair(train.dataset, test.dataset, (train.source, test.source))
    for split in (train, test):
        split.check_sizes()
    ranges, notes = measured((train.source_images, test.source_images), parse_range(range))
    train.ranges = test.ranges = ranges
    return DetectionData(
        sha256=joint_digest(train.sha256, test.sha256),
        class_names=train.class_names,
        train=train,
        test=test,
        notes=notes,
    )


def load_official_coco(*, folder: str = "coco") -> DetectionData:
    """COCO 2017 under the data root.

    Raises:
        BobError: It is not there; ``kind`` is ``unavailable``.
    """
    path = data_root() / folder
    if not path.is_dir():
        raise BobError(
            f"COCO 2017 is not in {path}. Unpack train2017.zip, val2017.zip and "
            "annotations_trainval2017.zip of https://cocodataset.org/#download there, or name "
            "another data root in BOB_DATA.",
            kind="unavailable",
        )
    return load_coco(path=str(path))
