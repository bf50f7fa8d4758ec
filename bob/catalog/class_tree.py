"""The images below class folders, and the files there that are none."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from bob.errors import BobError, some

_NO_CLASS = frozenset({"__macosx"})
_HIDDEN = frozenset({"thumbs.db", "desktop.ini"})
_NO_PICTURES = frozenset({"BUFR", "GRIB", "HDF5", "MPEG", "WMF", "EPS"})
"""Formats that Pillow knows by their heads alone, or hands to a program that may not be there."""
_SHOWN = 3


@dataclass(frozen=True)
class Tree:
    """Class folders below one folder: their images, and files that belong to no class."""

    folder: Path
    classes: dict[str, list[tuple[str, int]]]
    stray: int
    broken: tuple[str, ...]
    not_images: Counter[str]


def read_tree(root: Path, folder: Path) -> Tree:
    """Images below each class folder of ``root``, as paths below ``folder``."""
    classes: dict[str, list[tuple[str, int]]] = {}
    broken: list[str] = []
    not_images: Counter[str] = Counter()
    prefix = PurePosixPath(root.relative_to(folder).as_posix())
    for entry in subfolders(root):
        images = classes.setdefault(plain(entry.name), [])
        _walk(root / entry.name, str(prefix / entry.name), images, broken, not_images)
        images.sort(key=lambda image: (plain(image[0]), image[0]))
    files = [entry for entry in _entries(root) if not _is_folder(entry)]
    stray = sum(is_image_name(file.name) for file in files)
    return Tree(root, classes, stray, tuple(broken), not_images)


def _walk(
    start: Path,
    name: str,
    images: list[tuple[str, int]],
    broken: list[str],
    not_images: Counter[str],
) -> None:
    seen: set[tuple[int, int]] = set()
    pending = [(start, name)]
    while pending:
        folder, shown = pending.pop(0)
        facts = folder.stat()
        if (facts.st_dev, facts.st_ino) in seen:
            continue  # a link that leads back, or a second way to the same images
        seen.add((facts.st_dev, facts.st_ino))
        linked: list[tuple[Path, str]] = []
        for entry in _entries(folder):
            path = f"{shown}/{entry.name}"
            if _is_folder(entry):
                (linked if entry.is_symlink() else pending).append((folder / entry.name, path))
            elif entry.name.lower() in _HIDDEN:
                continue
            elif not is_image_name(entry.name):
                if not os.path.isfile(entry):
                    continue
                not_images[PurePosixPath(entry.name).suffix.lower() or entry.name] += 1
            elif os.path.isfile(entry):
                images.append((path, entry.stat().st_size))
            else:
                broken.append(path)
        pending += linked


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds that may count, sorted."""
    try:
        with os.scandir(folder) as listing:
            kept = [entry for entry in listing if not entry.name.startswith(".")]
    except OSError as error:
        raise BobError(
            f"Cannot read {folder}: {error.strerror or error}. Give yourself the right to read it.",
            kind="dataset",
        ) from None
    return sorted(
        (entry for entry in kept if entry.name.lower() not in _NO_CLASS),
        key=lambda entry: entry.name,
    )


def subfolders(folder: Path) -> list[os.DirEntry[str]]:
    """Folders that may count, sorted by name."""
    return [entry for entry in _entries(folder) if _is_folder(entry)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


@cache
def image_endings() -> frozenset[str]:
    """Endings of the files that the installed Pillow decodes, in lower case with their dot."""
    from PIL import Image

    Image.init()
    return frozenset(
        ending
        for ending, form in {**Image.registered_extensions(), ".mpo": "JPEG"}.items()
        if form in Image.OPEN and form not in _NO_PICTURES
    )


def is_image_name(name: str) -> bool:
    """Whether a file's ending is one of ``image_endings``."""
    return os.path.splitext(name)[1].lower() in image_endings()


def plain(text: str) -> str:
    """Names as every file system would give them: accents composed."""
    return unicodedata.normalize("NFC", text)


def printable(text: str) -> str:
    """A name without characters that would break a line or cannot be encoded."""
    return "".join(character if character.isprintable() else "_" for character in plain(text))


def instead(tree: Tree) -> str:
    """What there is in place of images, in brackets; empty for nothing."""
    contents = _by_ending(tree.not_images)
    return f" (but {contents})" if contents else ""


def _by_ending(files: Counter[str]) -> str:
    """Counts of the most frequent endings, and of all others together."""
    shown = files.most_common(_SHOWN)
    rest = files.total() - sum(count for _, count in shown)
    parts = [f"{count} {printable(ending)}" for ending, count in shown]
    return ", ".join([*parts, *([f"{rest} others"] if rest else [])])


def tree_remarks(tree: Tree) -> list[str]:
    """What a reader should know of files that were left out."""
    remarks = []
    if tree.stray:
        remarks.append(f"{tree.stray} images directly in {tree.folder} belong to no class")
    if tree.broken:
        remarks.append(f"{told(tree.broken)} leads nowhere and is left out")
    if tree.not_images:
        count = tree.not_images.total()
        files = "file that is no image" if count == 1 else "files that are no images"
        remarks.append(
            f"left out of {tree.folder}: {count} {files} to Pillow ({_by_ending(tree.not_images)})"
        )
    return remarks


def told(names: Sequence[str]) -> str:
    """Names as a message shows them."""
    return some(repr(printable(name)) for name in names)
