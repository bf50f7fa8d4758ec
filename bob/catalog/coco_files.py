"""Where the images of a COCO-format file lie.

Standard library alone, so that a plan can ask.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bob.catalog.coco_values import error_of, shown
from bob.errors import some


@dataclass(frozen=True)
class ImageFiles:
    """The files of a split's images.

    Attributes:
        folder: What names are relative to.
        names: Of each file, by the ``file_name`` that the annotation file gives.
        remarks: How the names were read, where not as they are written.
    """

    folder: Path
    names: Mapping[str, str]
    remarks: tuple[str, ...] = ()

    def path(self, file_name: str) -> Path:
        """The file that an annotation file's ``file_name`` means."""
        return self.folder / self.names[file_name]


def find_images(images: Sequence[Mapping[str, Any]], folder: Path, source: Path) -> ImageFiles:
    """The files of the images, all of which are there.

    Names that find nothing as they are written are tried with backslashes as folders, and from the
    folders above ``folder`` and above the annotation file: ``val2017/1.jpg``. Exactly one such way
    must find every image.

    Args:
        images: Entries that ``bob.catalog.coco_checks.check_content`` has passed.
        folder: Where the layout puts them.
        source: The annotation file.

    Raises:
        BobError: Images are missing, there is more than one way, two entries name one file, or a
            name leads out of the dataset's folder.
    """
    names = [str(image["file_name"]) for image in images]
    root = _root(folder, source)
    listed: dict[Path, frozenset[str]] = {}
    missing = [at for at, name in enumerate(names) if not _there(folder / name, listed)]
    found = ImageFiles(folder, {name: name for name in names})
    if missing:
        ways = list(_ways(names, folder, source, listed))
        if len(ways) != 1:
            lost = [f"{names[at]} (id {images[at]['id']})" for at in missing]
            first = folder / names[missing[0]]
            remedy = "Restore them, or take their entries out"
            if ways:
                remedy = (
                    f"It could be {some(way.path(names[missing[0]]) for way in ways)}: write "
                    f"file_name relative to {folder}"
                )
            raise error_of(
                source,
                f"{len(missing)} of {len(images)} images are not in {folder}: {some(lost)}. "
                f"Looked for {first}. {remedy}",
            )
        found = ways[0]
    _check_once(images, found, source)
    return _rooted(images, found, root, source)


def _root(folder: Path, source: Path) -> Path:
    """The dataset's folder: the nearest of the images' and those above it with the annotations."""
    above = Path(os.path.abspath(source.parent))
    images = Path(os.path.abspath(folder))
    for root in (images, images.parent, images.parent.parent):
        if above.is_relative_to(root) and root != root.parent:
            return root
    return images


def _rooted(
    images: Sequence[Mapping[str, Any]], files: ImageFiles, root: Path, source: Path
) -> ImageFiles:
    """The same files, of which none lies outside the dataset's folder but by a link in it."""
    base = os.path.abspath(files.folder)
    names, outward = {}, False
    for image in images:
        name = image["file_name"]
        path = os.path.normpath(os.path.join(base, files.names[name]))
        if not Path(path).is_relative_to(root):
            raise error_of(
                source,
                f"image {image['id']}: file_name {shown(name)} leads out of {root}. Data may name "
                "files of their own folder alone: move the images there, or link them into it",
            )
        outward = outward or not Path(path).is_relative_to(base)
        names[name] = os.path.relpath(path, root)
    if not outward and not any(os.pardir in name for name in files.names.values()):
        return files
    return ImageFiles(root, names, files.remarks)


def _ways(
    names: Sequence[str], folder: Path, source: Path, listed: dict[Path, frozenset[str]]
) -> Iterable[ImageFiles]:
    """The ways to read the names that find every image, each set of files once."""
    bases = (folder, folder.parent, folder.parent.parent, source.parent, source.parent.parent)
    seen = set()
    for backslashes in (False, True):
        read = {name: name.replace("\\", "/") if backslashes else name for name in names}
        for base in dict.fromkeys(bases):
            paths = tuple(os.path.normpath(base / read[name]) for name in names)
            if paths in seen or not all(_there(Path(path), listed) for path in paths):
                continue
            seen.add(paths)
            how = ["with \\ as /"] if backslashes else []
            how += [f"relative to {base}"] if base != folder else []
            remark = (
                f"{source.name}: file_name, such as {names[0]}, is read {' and '.join(how)}: so "
                "every image is found"
            )
            yield ImageFiles(base, read, (remark,))


def _there(path: Path, listed: dict[Path, frozenset[str]]) -> bool:
    """Whether there is a file; each folder is listed once."""
    parent = path.parent
    if parent not in listed:
        try:
            with os.scandir(parent) as entries:
                listed[parent] = frozenset(entry.name for entry in entries if _is_file(entry))
        except OSError:
            listed[parent] = frozenset()
    return path.name in listed[parent]


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False


def _check_once(images: Sequence[Mapping[str, Any]], files: ImageFiles, source: Path) -> None:
    keys: dict[str, int] = {}
    for image in images:
        path = os.path.normpath(files.path(image["file_name"]))
        if path in keys:
            raise error_of(
                source,
                f"images {keys[path]} and {image['id']} have the same file_name "
                f"{image['file_name']}. Put their annotations under one id, and take the other "
                "entry out",
            )
        keys[path] = image["id"]
