"""Datasets named on the command line."""

from __future__ import annotations

import hashlib
import os
import re
from importlib.util import find_spec
from pathlib import Path

from bob.catalog.class_tree import printable
from bob.catalog.image_folder import read_folder
from bob.catalog.load import Catalog
from bob.catalog.schema import DatasetEntry, Scalar
from bob.catalog.value_range import parse_range
from bob.errors import BobError, unknown
from bob.file_digests import digests_of_files
from bob.places import real_path, user_path

FORMS = "a catalog key, coco:FOLDER, folder:FOLDER or hf:NAME, each with optional ,key=value"
HF_INSTALL = "pip install 'battle-of-backbones[hf]'"

_NOTE = "named on the command line"
_KEYS = {
    "coco": ("name", "range"),
    "folder": ("name", "split", "test", "seed", "range"),
    "hf": (
        "name",
        "train",
        "split",
        "test",
        "seed",
        "image",
        "label",
        "config",
        "revision",
        "range",
    ),
}


def parse_dataset(spec: str, catalog: Catalog) -> DatasetEntry:
    """Turn one ``--dataset`` value into a catalog entry.

    Forms: a catalog key; ``coco:FOLDER``; ``folder:FOLDER``, images in class folders; ``hf:NAME``,
    a dataset of the Hugging Face hub or one that its library reads from a local path. Arguments
    follow as ``,key=value``: ``name`` (the key shown); ``test`` and ``seed`` (share and draw of the
    images held back where there is no test split); ``split`` (what to score on where there are
    several); ``range`` (values that are black and white in images of more than 8 bits); and of
    ``hf`` ``train``, ``image``, ``label``, ``config`` and ``revision``.

    Raises:
        BobError: The text has none of these forms, or the data there cannot be used.
    """
    form, colon, rest = spec.partition(":")
    if not colon:
        return catalog.dataset(spec)
    # a comma may be part of a path
    place, *pairs = re.split(r",(?=\w+=)", rest)
    if form not in _KEYS or not place:
        raise BobError(f"Dataset {spec!r} has no known form. Write {FORMS}.")
    options = _options(spec, form, pairs)
    name = options.pop("name", "")
    try:
        parse_range(options.get("range", ""))
    except BobError as error:
        raise BobError(f"Dataset {spec!r}: {error}") from None
    if form == "coco":
        return _coco(place, name, options)
    settings: dict[str, Scalar] = {
        **options,
        **{key: _number(spec, key, options[key]) for key in ("test", "seed") if key in options},
    }
    return (_folder if form == "folder" else _hub)(place, name, settings)


def _options(spec: str, form: str, pairs: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key not in _KEYS[form]:
            hint = f"Of {form}: there is {', '.join(_KEYS[form])}."
            raise BobError(f"Dataset {spec!r}: {unknown('argument', key, _KEYS[form], hint=hint)}")
        if not value:
            raise BobError(f"Dataset {spec!r}: {key}= has no value.")
        options[key] = value
    return options


def _number(spec: str, key: str, text: str) -> float | int:
    try:
        value = float(text) if key == "test" else int(text)
    except ValueError:
        value = -1
    if value < 0 or (key == "test" and not 0 < value < 1):
        expected = "a share between 0 and 1, such as 0.2" if key == "test" else "a whole number"
        raise BobError(f"Dataset {spec!r}: {key}={text}: expected {expected}.")
    return value


def _coco(place: str, name: str, options: dict[str, str]) -> DatasetEntry:
    from bob.catalog.coco_folder import coco_facts

    folder = real_path(place)
    sha256, classes, train_size, test_size, masks = coco_facts(folder)
    return DatasetEntry(
        key=name or f"coco:{folder.name}",
        kind="detection",
        loader="bob.datasets.detection:load_coco",
        options={"path": str(folder), "masks": masks, **options},
        sha256=sha256,
        classes=classes,
        test_size=test_size,
        train_size=train_size,
        note=_NOTE,
    )


def _folder(place: str, name: str, settings: dict[str, Scalar]) -> DatasetEntry:
    folder = real_path(place)
    listed = {key: value for key, value in settings.items() if key != "range"}
    content = read_folder(folder, **listed)  # type: ignore[arg-type]
    return DatasetEntry(
        key=name or printable(f"folder:{folder.name}"),
        loader="bob.datasets.folder:load",
        options={"path": str(folder), **settings},
        sha256=content.sha256,
        classes=len(content.class_names),
        train_size=len(content.train),
        test_size=len(content.test),
        note=_NOTE,
    )


def _hub(place: str, name: str, settings: dict[str, Scalar]) -> DatasetEntry:
    library = find_spec("datasets")
    if library is None or library.origin is None:  # a folder of this name is not the library
        raise BobError(f"hf:{place} is read by the library `datasets`: {HF_INSTALL}.")
    local = user_path(place)
    if not local.exists() and re.match(r"[/.~]", place):
        raise BobError(f"hf:{place}: there is no such file or folder.")
    path = str(real_path(place)) if local.exists() else place
    return DatasetEntry(
        key=name or printable(f"hf:{Path(path).name if local.exists() else place}"),
        loader="bob.datasets.hub:load",
        options={"path": path, **settings},
        sha256=files_digest(Path(path)) if local.exists() else None,
        note=_NOTE,
    )


def files_digest(path: Path) -> str:
    """Hex SHA-256 of the name and bytes of a file, or of those of the files in a folder."""
    names = {path: path.name} if path.is_file() else {}
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in files if not name.startswith(".")):
            names[Path(folder, name)] = Path(folder, name).relative_to(path).as_posix()
    digest = hashlib.sha256()
    for name, sha256 in zip(names.values(), digests_of_files(list(names)), strict=True):
        digest.update(f"{name}\0{sha256}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
