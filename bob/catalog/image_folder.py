"""Which images a folder of class folders holds, and which of them are to test on.

No image is decoded, so that a plan can ask.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from bob.catalog.class_tree import (
    Tree,
    instead,
    plain,
    printable,
    read_tree,
    told,
    tree_remarks,
)
from bob.catalog.folder_layout import LAYOUT, check_classes, split_folders, train_alone
from bob.errors import BobError
from bob.file_digests import digests_of_files

TEST_SHARE = 0.2
"""Share of each class that is tested on where the folder has no test split of its own."""

_EVERYWHERE = (".jpg", ".png", ".tif", ".bmp", ".webp")


@dataclass(frozen=True)
class ImageFile:
    """One image.

    Attributes:
        path: Relative to the dataset's folder, with forward slashes.
        size: In bytes.
        label: Position of its class.
    """

    path: str
    size: int
    label: int


@dataclass(frozen=True)
class FolderContent:
    """Images to learn from and to score on.

    Attributes:
        folder: Where they are.
        class_names: Sorted, fit to be printed.
        train: Sorted by class and path.
        test: Sorted by class and path.
        remarks: What a reader of the scores should know.
    """

    folder: Path = field(compare=False)
    class_names: tuple[str, ...]
    train: tuple[ImageFile, ...]
    test: tuple[ImageFile, ...]
    remarks: tuple[str, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """Digest of classes, names and bytes of both splits; not of where the folder lies."""
        digest = hashlib.sha256("\0".join(self.class_names).encode("utf-8", "surrogateescape"))
        parts = zip(("train", "test"), (self.train, self.test), self.digests, strict=True)
        for part, images, files in parts:
            for image, sha256 in zip(images, files, strict=True):
                line = f"{part}\0{image.label}\0{plain(image.path)}\0{sha256}\0"
                digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    @cached_property
    def digests(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Hex SHA-256 of the bytes of each train and each test image; empty if unreadable."""
        paths = [self.folder / image.path for image in (*self.train, *self.test)]
        files = digests_of_files(paths)
        return files[: len(self.train)], files[len(self.train) :]


def read_folder(
    folder: Path, *, test: float | None = None, seed: int | None = None, split: str = ""
) -> FolderContent:
    """List the images of a folder and split them.

    Known layouts: ``train/<class>/...`` beside ``test``, ``val`` or another split, in whatever
    case (see ``bob.catalog.folder_layout``); or ``<class>/...`` alone, of which a fixed share is
    held back for the test.
    Folders within a class folder belong to the class. Hidden files and ``__MACOSX`` do not count.

    Args:
        folder: The dataset.
        test: Share of each class to test on; ``TEST_SHARE`` unless given.
        seed: Of that draw; 0 unless given.
        split: Folder to score on, of any name; ``test`` before ``val`` unless given.

    Raises:
        BobError: There is no such folder, it has another layout, or a class has nothing to learn
            from. The message says what to change.
    """
    _check_folder(folder)
    splits = split_folders(folder, split)
    if splits:
        if test is not None or seed is not None:
            raise BobError(
                f"{folder} has test images of its own in {splits.scored[0]}/; leave out "
                f"{'test' if test is not None else 'seed'}=."
            )
        chosen = _chosen(folder, splits.scored, split)
        return _from_two(folder, splits.train, chosen, splits.siblings)
    if split:
        raise BobError(
            f"{folder} has no train/ and {split}/ to tell apart; leave out split={split}. {LAYOUT}."
        )
    root = train_alone(folder) or folder
    return _from_one(root, folder, TEST_SHARE if test is None else test, seed or 0)


def _check_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    if folder.exists():
        raise BobError(f"{folder} is a file, not a folder of images. {LAYOUT}.")
    raise BobError(f"No folder {folder}. {LAYOUT}.")


def _chosen(folder: Path, scored: Sequence[str], split: str) -> str:
    if not split:
        return scored[0]
    matching = [name for name in scored if name.lower() == split.lower()]
    if not matching:
        raise BobError(
            f"{folder} has no folder {split!r} to score on; there is {' and '.join(scored)}."
        )
    return matching[0]


def _from_two(folder: Path, train: str, test: str, siblings: Sequence[str]) -> FolderContent:
    inner = [remark for part in (train, test) if (remark := check_classes(folder / part))]
    learnt, scored = read_tree(folder / train, folder), read_tree(folder / test, folder)
    names = sorted({*learnt.classes, *scored.classes})
    _check_classes(learnt, names, folder)
    unlearnt = [name for name in names if not learnt.classes.get(name)]
    if unlearnt:
        known = [name for name in unlearnt if scored.classes.get(name)]
        if known:
            raise BobError(
                f"{folder / test} has images of {told(known)} and {folder / train} has none: "
                "nothing can be learnt of it. Add train images, or take the class out of the test.",
                kind="dataset",
            )
        raise _empty(unlearnt, learnt if unlearnt[0] in learnt.classes else scored)
    if not any(scored.classes.values()):
        raise BobError(f"{folder / test} holds no images{instead(scored)}.", kind="dataset")
    untested = [name for name in names if not scored.classes.get(name)]
    ignored = [name for name in siblings if name != test]
    remarks = [
        *inner,
        *tree_remarks(learnt),
        *tree_remarks(scored),
        *([f"{told(untested)} has train images and no test image"] if untested else []),
        *([f"{told(ignored)} beside {train}/ and {test}/ is not used"] if ignored else []),
    ]
    return _content(folder, names, learnt.classes, scored.classes, remarks)


def _from_one(root: Path, folder: Path, share: float, seed: int) -> FolderContent:
    if not 0 < share < 1:
        raise BobError(
            f"test={share:g}: expected a share of the images between 0 and 1, such as 0.2."
        )
    inner = check_classes(root)
    tree = read_tree(root, folder)
    names = sorted(tree.classes)
    _check_classes(tree, names, root)
    empty = [name for name in names if not tree.classes[name]]
    if empty:
        raise _empty(empty, tree)
    learnt, scored = {}, {}
    for name in names:
        held = held_back([plain(path) for path, _ in tree.classes[name]], share, seed)
        rows = list(enumerate(tree.classes[name]))
        learnt[name] = [image for row, image in rows if row not in held]
        scored[name] = [image for row, image in rows if row in held]
    single = [name for name in names if not scored[name]]
    if len(single) == len(names):
        raise BobError(
            f"No class in {root} has two images, so nothing is left to test on. Add images.",
            kind="dataset",
        )
    remarks = [*([inner] if inner else []), *tree_remarks(tree)]
    if single:
        remarks.append(f"{told(single)} has one image, which is learnt from and not tested on")
    return _content(folder, names, learnt, scored, remarks)


def held_back(keys: Sequence[str], share: float, seed: int) -> set[int]:
    """Positions of the images of one class to test on.

    They follow from the keys and the seed alone: whatever the order and the machine, the same
    images are chosen, and one that is added moves few others. Two or more images leave at least one
    on either side; a single one is to learn from.

    Args:
        keys: One an image, such as its path.
        share: Of the images.
        seed: Of the draw.
    """
    count = min(max(1, round(share * len(keys))), len(keys) - 1)

    def rank(row: int) -> tuple[bytes, int]:
        text = f"{seed}\0{keys[row]}"
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest(), row

    return set(sorted(range(len(keys)), key=rank)[:count])


def _content(
    folder: Path,
    names: Sequence[str],
    learnt: dict[str, list[tuple[str, int]]],
    scored: dict[str, list[tuple[str, int]]],
    remarks: Iterable[str],
) -> FolderContent:
    def images(by_class: dict[str, list[tuple[str, int]]]) -> Iterator[ImageFile]:
        for label, name in enumerate(names):
            for path, size in by_class.get(name, ()):
                yield ImageFile(path, size, label)

    return FolderContent(
        folder,
        tuple(map(printable, names)),
        tuple(images(learnt)),
        tuple(images(scored)),
        tuple(remarks),
    )


def _check_classes(tree: Tree, names: Sequence[str], folder: Path) -> None:
    if tree.stray and not names:
        raise BobError(
            f"{tree.folder} holds {tree.stray} images and no class folders. {LAYOUT}: put the "
            "images of each class into a folder of its own.",
            kind="dataset",
        )
    if not any(tree.classes.values()):
        raise BobError(f"{tree.folder} holds no images{instead(tree)}. {LAYOUT}.", kind="dataset")
    if len(names) == 1:
        raise BobError(
            f"{folder} has one class, {printable(names[0])!r}; there is nothing to tell apart. "
            f"{LAYOUT}, with two classes or more.",
            kind="dataset",
        )


def _empty(names: Sequence[str], tree: Tree) -> BobError:
    return BobError(
        f"{tree.folder} has a class folder without images: {told(names)}{instead(tree)}. Add "
        f"images ({', '.join(_EVERYWHERE)} and whatever else Pillow reads), or remove the folder.",
        kind="dataset",
    )
