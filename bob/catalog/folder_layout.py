"""Which folders at the top of a dataset are splits, which are classes, and which are neither."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bob.catalog.class_tree import subfolders, told
from bob.errors import BobError

LAYOUT = (
    "Expected are class folders, PATH/<class>/<image>, or PATH/train/<class>/<image> and "
    "PATH/test/<class>/<image> (or val)"
)

_TRAIN = ("train", "training")
_SCORED = (
    "test", "testing", "evaluation", "eval", "val", "valid", "validation", "dev",
)  # fmt: skip
_CERTAIN = frozenset({"train", "test", "val", "valid", "validation"})
_KINDS = frozenset({
    "image", "images", "img", "imgs", "jpegimages", "mask", "masks", "label", "labels",
    "annotation", "annotations", "ground_truth", "groundtruth", "gt", "segmentation",
    "segmentations", "segmentationclass", "segmentationobject", "imagesets", "overlay", "overlays",
})  # fmt: skip
"""Kinds of picture that lie side by side, in lower case."""


@dataclass(frozen=True)
class SplitFolders:
    """Folders of one dataset that are splits.

    Attributes:
        train: To learn from.
        scored: To score on, the first before the others.
        siblings: Every other folder beside ``train``, those of ``scored`` among them, sorted.
    """

    train: str
    scored: tuple[str, ...]
    siblings: tuple[str, ...]


def split_folders(folder: Path, split: str = "") -> SplitFolders | None:
    """The splits of a dataset; none where its folders are classes.

    ``train`` beside ``test``, ``val``, ``valid`` or ``validation`` are splits. Other names of
    splits are so where class folders are inside, or where nothing else lies beside them: a class
    may be called "training".

    Args:
        folder: The dataset.
        split: A folder that the user wants to score on; it may have any name.
    """
    names = [entry.name for entry in subfolders(folder)]
    lower = {name.lower(): name for name in reversed(names)}
    train = next((lower[name] for name in _TRAIN if name in lower), None)
    if train is None:
        return None
    scored = [lower[name] for name in _SCORED if name in lower]
    asked = lower.get(split.lower())
    if asked is not None and asked not in (train, *scored):
        scored.append(asked)
    alone = all(name.lower() in (*_TRAIN, *_SCORED) for name in names)
    scored = [
        name
        for name in scored
        if alone
        or name == asked
        or {train.lower(), name.lower()} <= _CERTAIN
        or (subfolders(folder / train) and subfolders(folder / name))
    ]
    if not scored:
        return None
    return SplitFolders(train, tuple(scored), tuple(name for name in names if name != train))


def train_alone(folder: Path) -> Path | None:
    """The train folder of a dataset that has class folders there and nothing else."""
    names = [entry.name for entry in subfolders(folder)]
    if len(names) == 1 and names[0].lower() in _TRAIN and subfolders(folder / names[0]):
        return folder / names[0]
    return None


def check_classes(root: Path) -> str:
    """What a reader should know of the folders inside class folders; empty for nothing.

    Args:
        root: Holds class folders.

    Raises:
        BobError: What should be class folders are splits or kinds of picture, by their names or
            because all of them hold the same folders.
    """
    names = [entry.name for entry in subfolders(root)]
    inner = {name: [entry.name for entry in subfolders(root / name)] for name in names}
    if names and all(name.lower() in {*_KINDS, *_TRAIN, *_SCORED} for name in names):
        holder = next((name for name in names if len(inner[name]) > 1), None)
        if holder is not None or len(names) > 1:
            raise _no_classes(root, f"{told(names)} are names of splits or of kinds of picture",
                              holder)  # fmt: skip
    shared = _shared(list(inner.values()))
    if len(names) < 2 or len(shared) < 2:
        return ""
    if len(shared) < len(names):
        return f"every class folder in {root} holds {told(shared)}, which belong to the class"
    raise _no_classes(root, f"each of {told(names)} holds the same folders, {told(shared)}",
                      names[0])  # fmt: skip


def _shared(folders: Sequence[Sequence[str]]) -> list[str]:
    """Names that all have, if those are at least half of the names there are."""
    if not folders:
        return []
    common = set(folders[0]).intersection(*folders)
    return sorted(common) if 2 * len(common) >= len(set().union(*folders)) else []


def _no_classes(root: Path, why: str, holder: str | None) -> BobError:
    remedy = (
        f"Name the folder that holds the class folders, such as folder:{root / holder}; or name "
        "the one to learn from train/ and choose another to score on with split=NAME"
        if holder
        else "Put the images of each class into a folder of its own"
    )
    return BobError(
        f"{root}: {why}, so they are not taken for classes. {LAYOUT}. {remedy}. If they are "
        "classes, give them other names and put each one's images into one folder.",
        kind="dataset",
    )
