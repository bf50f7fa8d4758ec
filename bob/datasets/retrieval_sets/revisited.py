"""Revisited Oxford and Paris (F. Radenović et al., CVPR 2018), graded easy, hard and junk.

The ground truth is revisitop's ``gnd_roxford5k.pkl`` or ``gnd_rparis6k.pkl``: ``imlist`` and
``qimlist`` name the images of database and queries without ``.jpg``, ``gnd`` holds for each query
the database positions ``easy``, ``hard`` and ``junk`` and the box ``bbx`` of the building. The
paper's authors reduce every image to 224 pixels on the longer side before the usual transform, and
do not crop queries to their box, as the benchmark's authors do.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bob.catalog.data_root import located
from bob.datasets.base import Relevance, RetrievalData
from bob.datasets.images import Files, ImageSplit
from bob.datasets.retrieval_sets.parts import Box, Seen, check_files, retrieval_data
from bob.datasets.retrieval_sets.plain_pickle import read_plain_pickle
from bob.errors import BobError

GRADES = ("easy", "hard", "junk")


@dataclass(frozen=True)
class GroundTruth:
    """Which database images belong to which query.

    Attributes:
        database: Image names, without folder and suffix.
        queries: Likewise.
        relevance: One entry per query.
        boxes: One per query, in pixels; empty where the file has none.
    """

    database: tuple[str, ...]
    queries: tuple[str, ...]
    relevance: tuple[Relevance, ...]
    boxes: tuple[Box, ...]


def load(*, folder: str, thumbnail: int = 224, crop: bool = False) -> RetrievalData:
    """Load ``roxford5k`` or ``rparis6k``.

    Each query is a class of its own, named after its file; database images carry the target -1.

    Args:
        folder: Under the data root; ``<name>/gnd_<name>.pkl`` and ``<name>/jpg`` are in it.
        thumbnail: Longest side that images are reduced to first, as the paper's authors do; 0 for
            the size they have.
        crop: Whether queries are cropped to their box, as the benchmark's authors do.

    Raises:
        BobError: A file is not there (``kind`` is ``unavailable`` for folder and ground truth),
            the ground truth is malformed or holds more than data, or an image that it names is
            missing.
    """
    root = located(folder)
    file = located(f"{folder}/gnd_{root.name}.pkl")
    truth = read_ground_truth(file)
    images = located(f"{folder}/jpg")
    queries = [f"{name}.jpg" for name in truth.queries]
    database = [f"{name}.jpg" for name in truth.database]
    check_files(images, queries, f"queries of {root.name}")
    check_files(images, database, f"database of {root.name}")
    if crop and not truth.boxes:
        raise BobError(f"{file} has no box (bbx) for each query to crop to.", kind="dataset")
    boxes = truth.boxes if crop else ()
    return retrieval_data(
        class_names=truth.queries,
        queries=ImageSplit(
            source=Seen(Files(images, queries), thumbnail, boxes),
            targets=torch.arange(len(queries)),
        ),
        database=ImageSplit(
            source=Seen(Files(images, database), thumbnail),
            targets=torch.full((len(database),), -1),
        ),
        relevance=truth.relevance,
        graded=True,
    )


def read_ground_truth(file: Path) -> GroundTruth:
    """Read and check a ground truth of revisitop.

    Raises:
        BobError: It is malformed, or holds more than data; names the file and the place.
    """
    content = read_plain_pickle(file)
    if not isinstance(content, Mapping) or not {"imlist", "qimlist", "gnd"} <= content.keys():
        raise _malformed(file, "it is no dictionary with imlist, qimlist and gnd")
    database, queries = (_names(content[key], file, key) for key in ("imlist", "qimlist"))
    entries = content["gnd"]
    if not isinstance(entries, Sequence | np.ndarray) or len(entries) != len(queries):
        raise _malformed(file, f"gnd does not hold one entry for each of {len(queries)} queries")
    relevance: list[Relevance] = []
    boxes: list[Box] = []
    for query, entry in enumerate(entries):
        if not isinstance(entry, Mapping) or not set(GRADES) <= entry.keys():
            raise _malformed(file, f"gnd[{query}] does not grade its images easy, hard and junk")
        graded = [
            _positions(entry[grade], len(database), file, f"gnd[{query}][{grade!r}]")
            for grade in GRADES
        ]
        relevance.append(Relevance(*graded))
        if "bbx" in entry:
            boxes.append(_box(entry["bbx"], file, f"gnd[{query}]['bbx']"))
    whole = tuple(boxes) if len(boxes) == len(queries) else ()
    return GroundTruth(database, queries, tuple(relevance), whole)


def _names(value: Any, file: Path, key: str) -> tuple[str, ...]:
    if not isinstance(value, Sequence | np.ndarray) or isinstance(value, str) or not len(value):
        raise _malformed(file, f"{key} is no list of image names")
    for name in value:
        if not isinstance(name, str) or not name or Path(name).name != name or "\0" in name:
            # lists of lists of the same lists would be written without end
            shown = reprlib.repr(name)[:80]
            raise _malformed(file, f"{key} holds {shown}, which is no image name")
    return tuple(str(name) for name in value)


def _positions(value: Any, size: int, file: Path, where: str) -> torch.Tensor:
    if isinstance(value, list | tuple):
        plain = all(isinstance(position, int | np.integer) for position in value)
        if not plain or any(isinstance(position, bool) for position in value):
            raise _malformed(file, f"{where} is no list of positions among {size} images")
    elif not isinstance(value, np.ndarray):
        raise _malformed(file, f"{where} is no list of positions")
    try:
        positions = np.asarray(value)
    except (TypeError, ValueError, OverflowError):
        raise _malformed(file, f"{where} is no list of positions") from None
    if positions.size == 0:
        return torch.empty(0, dtype=torch.int64)
    whole = positions.ndim == 1 and positions.dtype.kind in "iu"
    if not whole or positions.min() < 0 or positions.max() >= size:
        raise _malformed(file, f"{where} is no list of positions among {size} images")
    return torch.from_numpy(np.sort(positions.astype(np.int64)))


def _box(value: Any, file: Path, where: str) -> Box:
    try:
        left, upper, right, lower = (float(edge) for edge in value)
    except (TypeError, ValueError):
        raise _malformed(file, f"{where} is no box of four numbers") from None
    if not (left < right and upper < lower and max(right, lower) < 1e6 and min(left, upper) > -1e6):
        raise _malformed(file, f"{where} is a box without area")
    return left, upper, right, lower


def _malformed(file: Path, what: str) -> BobError:
    return BobError(
        f"{file} is no ground truth of revisitop: {what}. Download it again from "
        "http://cmp.felk.cvut.cz/revisitop/.",
        kind="dataset",
    )
