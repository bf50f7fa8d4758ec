"""Datasets that the Hugging Face library ``datasets`` reads: of its hub, or of a local path."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from bob.catalog.class_tree import printable
from bob.catalog.dataset_spec import HF_INSTALL, files_digest
from bob.catalog.image_folder import TEST_SHARE
from bob.catalog.value_range import ValueRange, parse_range
from bob.datasets.base import ClassificationData
from bob.datasets.decoding import mode_of, opened
from bob.datasets.folder import leakage
from bob.datasets.hub_columns import (
    LABEL_NAMES,
    Labelled,
    class_names_of,
    column_of,
    divided,
    labelled,
    labels_of,
    named,
)
from bob.datasets.images import ImageSplit
from bob.datasets.ranges import with_ranges
from bob.errors import BobError
from bob.regular_files import read_regular

_TEST_NAMES = ("test", "validation", "val", "valid")


@dataclass(frozen=True)
class TableImages:
    """Encoded images in a column of a table on disk.

    Attributes:
        table: A ``datasets.Dataset`` whose column is an undecoded ``Image``.
        column: Its name.
        rows: Which rows, in their order.
        what: Named in messages.
        roots: Folders of which rows may name files; paths that are not absolute are taken from the
            first.
    """

    table: Any
    column: str
    rows: Sequence[int]
    what: str
    roots: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        """Row of an image, and its file where it has one."""
        path = self._cell(index).get("path")
        return f"{self.what}, row {self.rows[index]}" + (f", {path}" if path else "")

    def open(self, index: int) -> Image.Image:
        """The decoded image, upright."""
        return opened(io.BytesIO(self._bytes(index)))

    def mode(self, index: int) -> str:
        """Mode that the image's head tells."""
        return mode_of(io.BytesIO(self._bytes(index)))

    def facts(self) -> Iterator[str]:
        """Digest of the bytes of each image."""
        return iter(self.digests)

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """Hex SHA-256 of the bytes of each image; empty where there are none."""
        return tuple(self._digest(index) for index in range(len(self)))

    def _digest(self, index: int) -> str:
        try:
            return hashlib.sha256(self._bytes(index)).hexdigest()
        except OSError:
            return ""

    def _cell(self, index: int) -> dict[str, Any]:
        return self.table[int(self.rows[index])][self.column] or {}

    def _bytes(self, index: int) -> bytes:
        cell = self._cell(index)
        if cell.get("bytes") is not None:
            return bytes(cell["bytes"])
        if not cell.get("path"):
            raise OSError("the row holds no image")
        return read_regular(self._allowed(str(cell["path"])))

    def _allowed(self, named: str) -> Path:
        path = Path(os.path.normpath(self.roots[0] / named))
        for root in self.roots:
            # the library gives paths with links followed or not; links in the folder may lead out
            for folder in (root, root.resolve()):
                if path.is_relative_to(folder):
                    return path
        raise OSError(errno.EPERM, f"the row names a file outside of {self.roots[0]}", named)


def load(
    *,
    path: str,
    train: str = "train",
    split: str = "",
    test: float | None = None,
    seed: int | None = None,
    image: str = "",
    label: str = "",
    config: str | None = None,
    revision: str | None = None,
    range: str = "",
) -> ClassificationData:
    """Load a dataset; images stay encoded on disk.

    Args:
        path: Name on the hub, a folder that ``save_to_disk`` wrote, or a file or folder that
            ``load_dataset`` reads.
        train: Split to learn from.
        split: Split to score on; else the first of test, validation, val and valid that has labels.
        test: Share held back to test on, where there is no such split.
        seed: Of that draw.
        image: Column of the images; else the one of type ``Image``.
        label: Column of the classes; else the one of type ``ClassLabel``, or one called label.
        config: Configuration of a dataset that has several.
        revision: Commit, tag or branch on the hub.
        range: Values that are black and white in images of more than 8 bits, as ``LOW:HIGH``;
            measured unless given.

    Raises:
        BobError: The library is missing or the data are out of reach (``kind`` is
            ``unavailable``), or splits or columns are not told apart.
    """
    content = _content(path)
    return _load(
        path, content, train, split, test, seed, image, label, config, revision, parse_range(range)
    )


@lru_cache(maxsize=2)
def _load(
    path: str,
    content: str,
    train: str,
    split: str,
    test: float | None,
    seed: int | None,
    image: str,
    label: str,
    config: str | None,
    revision: str | None,
    given: ValueRange | None,
) -> ClassificationData:
    """As of ``load``; ``content`` is the digest of local files."""
    splits = _read(path, content, config, revision)
    if train not in splits:
        raise BobError(
            f"{path} has no split {train!r} to learn from; there is {named(splits)}. Name one "
            "with train=.",
            kind="dataset",
        )
    features = splits[train].features
    column = column_of(path, features, "image", image, "Image", ())
    target = column_of(path, features, "label", label, "ClassLabel", LABEL_NAMES)
    scored = _scored(path, splits, train, target, split, drawn=test is not None or seed is not None)
    labels = labels_of(path, train, splits[train], target)
    if scored:
        learnt = list(enumerate(labels))
        held = list(enumerate(labels_of(path, scored, splits[scored], target)))
    else:
        learnt, held = divided(labels, TEST_SHARE if test is None else test, seed or 0)
    names = class_names_of(path, features[target], learnt, held)
    position = {name: index for index, name in enumerate(names)}
    parts = [
        _split(splits[name], column, rows, position, f"{path}, split {name}", _roots(path))
        for name, rows in ((train, learnt), (scored or train, held))
    ]
    data = ClassificationData(
        sha256=content or _digest(parts),
        class_names=tuple(printable(str(name)) for name in names),
        train=parts[0],
        test=parts[1],
        notes=leakage(_copies(*parts), len(parts[1])),
    )
    return with_ranges(data, given)


def _content(path: str) -> str:
    """Digest of local files; empty for a name on the hub."""
    return files_digest(Path(path)) if Path(path).exists() else ""


def _scored(path: str, splits: Any, train: str, target: str, split: str, *, drawn: bool) -> str:
    """Name of the split to score on; empty where a part of the train split is held back.

    Args:
        path: For messages.
        splits: By name.
        train: The split to learn from.
        target: Column of the classes.
        split: What the user asked for, if anything.
        drawn: Whether the user asked for a draw.
    """
    usual = (name for name in _TEST_NAMES if name != train and name in splits)
    scored = split or next((name for name in usual if labelled(splits[name], target)), "")
    if scored and scored not in splits:
        raise BobError(
            f"{path} has no split {scored!r} to score on; there is {named(splits)}.",
            kind="dataset",
        )
    if scored and drawn:
        raise BobError(
            f"{path} has test images of its own, split {scored!r}; leave out test= and seed=.",
            kind="dataset",
        )
    return scored


def _read(path: str, content: str, config: str | None, revision: str | None) -> Any:
    splits = _attempt(path, content, config, revision)
    if isinstance(splits, BobError):
        raise splits
    return splits


@lru_cache(maxsize=8)
def _attempt(path: str, content: str, config: str | None, revision: str | None) -> Any:
    """Splits by name, or why there are none; asked once, because a hub out of reach takes long."""
    try:
        import datasets

        load_dataset, load_from_disk = datasets.load_dataset, datasets.load_from_disk
    except (ImportError, AttributeError):  # a folder named datasets can be imported too
        return BobError(
            f"hf:{path} is read by the library `datasets`: {HF_INSTALL}.", kind="unavailable"
        )
    place = Path(path)
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        if (place / "dataset_dict.json").is_file():
            return load_from_disk(path)
        if (place / "state.json").is_file():
            return {"train": load_from_disk(path)}
        # the library knows a local file by its time alone, so each content has its own cache
        cache = str(Path(datasets.config.HF_DATASETS_CACHE, f"bob-{content}")) if content else None
        if place.is_file():
            return load_dataset(_builder(place), data_files={"train": path}, cache_dir=cache)
        return load_dataset(path, config, revision=revision, cache_dir=cache)
    except Exception as error:
        first = (str(error).splitlines() or [""])[0].rstrip(".")
        if place.exists():
            return BobError(
                f"`datasets` cannot read {path}: {type(error).__name__}: {first}.", kind="dataset"
            )
        return BobError(
            f"{path} is neither on this machine nor within reach: {type(error).__name__}: {first}. "
            f"Where there is a network, `load_dataset({path!r})` fills "
            f"{datasets.config.HF_DATASETS_CACHE}; copy that folder here, or name one that "
            "`save_to_disk` wrote: --dataset=hf:FOLDER.",
            kind="unavailable",
        )
    finally:
        if shown:
            datasets.enable_progress_bars()


def _builder(file: Path) -> str:
    known = {".parquet": "parquet", ".arrow": "arrow", ".tar": "webdataset"}
    if file.suffix not in known:
        raise ValueError(f"expected one of {', '.join(known)}, or a folder.")
    return known[file.suffix]


def _roots(path: str) -> tuple[Path, ...]:
    """The dataset's own folder if it is here, and where the library keeps what it fetched."""
    import datasets
    from huggingface_hub.constants import HF_HUB_CACHE

    place = Path(os.path.abspath(path))
    own = [place if place.is_dir() else place.parent] if place.exists() else []
    kept = (datasets.config.HF_DATASETS_CACHE, datasets.config.DOWNLOADED_DATASETS_PATH,
            datasets.config.EXTRACTED_DATASETS_PATH, HF_HUB_CACHE)  # fmt: skip
    return (*own, *(Path(os.path.abspath(folder)) for folder in kept))


def _split(
    table: Any,
    column: str,
    rows: Labelled,
    position: dict[Any, int],
    what: str,
    roots: tuple[Path, ...],
) -> ImageSplit:
    import datasets

    encoded = table.with_format(None).cast_column(column, datasets.Image(decode=False))
    return ImageSplit(
        source=TableImages(encoded, column, [row for row, _ in rows], what, roots),
        targets=torch.tensor([position[name] for _, name in rows], dtype=torch.int64),
    )


def _copies(train: ImageSplit, test: ImageSplit) -> int:
    known = set(train.source.facts()) - {""}
    return sum(digest in known for digest in test.source.facts())


def _digest(parts: Sequence[ImageSplit]) -> str:
    labels = b"".join(part.targets.numpy().astype("<i8").tobytes() for part in parts)
    text = "".join(part.digest for part in parts).encode()
    return hashlib.sha256(text + labels).hexdigest()
