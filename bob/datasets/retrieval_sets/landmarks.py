"""Google Landmarks v2 retrieval (T. Weyand et al., CVPR 2020).

Queries are the test images for which ``retrieval_solution_v2.1.csv`` names index images; rows that
say ``None`` are left out. The index is the database. Paths follow the official layout,
``a/b/c/<id>.jpg`` after the first letters of the id, or lie flat, as the paper's authors have them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

from bob.catalog.data_root import located
from bob.datasets.base import Relevance, RetrievalData
from bob.datasets.images import Files, ImageSplit
from bob.datasets.retrieval_sets.parts import is_image, retrieval_data
from bob.errors import BobError, some


def load(*, solution: str, queries: str, database: str) -> RetrievalData:
    """List the images and read the solution; no image is decoded.

    Each query is a class of its own, named by its id; database images carry the target -1. The
    database is in the order of its ids.

    Args:
        solution: The CSV file under the data root, with columns id, images and Usage.
        queries: Folder of the test images; ``a|b`` is the first that exists.
        database: Folder of the index images, likewise.

    Raises:
        BobError: A file or folder is not there (``kind`` is ``unavailable``), the solution is
            malformed, or an image that it names is missing.
    """
    file = located(solution)
    asked, shelf = located(queries), located(database)
    wanted = dict(sorted(read_solution(file)))
    names = sorted(_listed(shelf), key=_id)
    positions = _positions_of({image_id for ids in wanted.values() for image_id in ids}, names)
    none = torch.empty(0, dtype=torch.int64)
    relevance: list[Relevance] = []
    for query, ids in wanted.items():
        absent = [image_id for image_id in ids if image_id not in positions]
        if absent:
            raise BobError(
                f"{shelf} lacks {some(f'{image_id}.jpg' for image_id in absent)}, which "
                f"{file.name} names for query {query}. Unpack every archive of the index.",
                kind="dataset",
            )
        right = torch.tensor(sorted({positions[image_id] for image_id in ids}), dtype=torch.int64)
        relevance.append(Relevance(right, none, none))
    return retrieval_data(
        class_names=wanted,
        queries=ImageSplit(
            source=Files(asked, [_query_path(asked, query_id, file) for query_id in wanted]),
            targets=torch.arange(len(wanted)),
        ),
        database=ImageSplit(source=Files(shelf, names), targets=torch.full((len(names),), -1)),
        relevance=relevance,
    )


def read_solution(file: Path) -> Iterator[tuple[str, list[str]]]:
    """Ids of the queries that have an answer, and of the index images that are right.

    Raises:
        BobError: A line is not ``id,images,Usage``, or none has an answer.
    """
    answers = 0
    try:
        with file.open(encoding="utf-8") as lines:
            # Fields hold ids and spaces alone, and can exceed what the csv module allows a field.
            for number, line in enumerate(lines, start=1):
                fields = line.rstrip("\r\n").split(",")
                if number == 1 and fields == ["id", "images", "Usage"]:
                    continue
                if number == 1 or len(fields) != 3 or not fields[0].isalnum():
                    raise BobError(
                        f"{file}:{number}: expected the columns id, images and Usage, found "
                        f"{line.rstrip()[:80]!r}.",
                        kind="dataset",
                    )
                if fields[1] not in ("None", ""):
                    answers += 1
                    yield fields[0], fields[1].split()
    except (OSError, UnicodeDecodeError) as error:
        raise BobError(f"Cannot read {file}: {error}", kind="dataset") from None
    if not answers:
        raise BobError(f"{file} names no index image for any query.", kind="dataset")


def _listed(root: Path) -> Iterator[str]:
    """Every image below a folder, relative to it, with forward slashes."""
    for folder, _, files in os.walk(root):
        inner = os.path.relpath(folder, root).replace(os.sep, "/")
        for name in files:
            if is_image(name):
                yield name if inner == "." else f"{inner}/{name}"


def _id(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[0]


def _positions_of(wanted: set[str], names: list[str]) -> dict[str, int]:
    ids = ((_id(name), place) for place, name in enumerate(names))
    return {image_id: place for image_id, place in ids if image_id in wanted}


def _query_path(root: Path, query_id: str, file: Path) -> str:
    nested = "/".join((*query_id[:3], f"{query_id}.jpg"))
    for path in (nested, f"{query_id}.jpg"):
        if (root / path).is_file():
            return path
    raise BobError(
        f"No file {root / nested} of query {query_id}, which {file.name} names. Unpack every "
        "archive of the test set.",
        kind="dataset",
    )
