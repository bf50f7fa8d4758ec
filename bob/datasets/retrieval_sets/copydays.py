"""INRIA Copydays (M. Douze et al., CIVR 2009): edited copies look for their original.

Names have six digits, of which the first four are the original's. The list of queries and answers
that the paper's authors used is not public, so the official structure stands in for it: copies
(by default the strongly edited ones) are queries, the originals the database, without distractors.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from bob.catalog.data_root import located
from bob.datasets.base import RetrievalData
from bob.datasets.images import Files, ImageSplit
from bob.datasets.relevance import class_relevance
from bob.datasets.retrieval_sets.parts import is_image, retrieval_data
from bob.errors import BobError

_NAME = re.compile(r"(\d{4})\d{2}")


def load(*, folder: str, queries: str = "strong") -> RetrievalData:
    """Load copies and originals; every original is a class, named by its four digits.

    Args:
        folder: Under the data root; holds ``original`` and the copies.
        queries: Folder of the copies within it, with those below: ``strong``, ``jpegqual`` or one
            of its qualities such as ``jpegqual/3``, ``crops`` or one of its shares such as
            ``crops/80``.

    Raises:
        BobError: A folder is not there (``kind`` is ``unavailable``) or holds no image, a name has
            not six digits, or a copy has no original.
    """
    originals, copies = located(f"{folder}/original"), located(f"{folder}/{queries}")
    shelf, asked = _listed(originals), _listed(copies)
    blocks = [_block(originals, name) for name in shelf]
    classes = sorted(set(blocks))
    targets = []
    for name in asked:
        block = _block(copies, name)
        if block not in classes:
            raise BobError(
                f"{copies / name} is a copy of {originals}/{block}00.jpg, which is not there. "
                "Unpack copydays_original.tar.gz again.",
                kind="dataset",
            )
        targets.append(classes.index(block))
    looking = torch.tensor(targets, dtype=torch.int64)
    standing = torch.tensor([classes.index(block) for block in blocks], dtype=torch.int64)
    return retrieval_data(
        class_names=classes,
        queries=ImageSplit(source=Files(copies, asked), targets=looking),
        database=ImageSplit(source=Files(originals, shelf), targets=standing),
        relevance=class_relevance(looking, standing),
    )


def _listed(root: Path) -> list[str]:
    names = sorted(
        path.relative_to(root).as_posix() for path in root.rglob("*") if is_image(path.name)
    )
    if not names:
        raise BobError(f"{root} holds no image.", kind="dataset")
    return names


def _block(root: Path, name: str) -> str:
    match = _NAME.fullmatch(Path(name).stem)
    if match is None:
        raise BobError(
            f"{root / name} has no name of six digits, of which the first four are the original's.",
            kind="dataset",
        )
    return match[1]
