"""What a board says of a backbone besides its scores."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from bob.catalog import BackboneEntry, Catalog
from bob.cost.speed import Speeds, describe, is_told
from bob.ledger.score import Score

_MILLIONS = {
    "IN-1k": 1.28, "IN-21k": 14.2, "IN-22k": 14.2, "LVD-142M": 142.0, "LVD-1689M": 1689.0,
    "WIT-400M": 400.0, "LAION-2B": 2320.0, "IG-3.6B": 3600.0, "SA-1B": 11.0, "WebLI": 10_000.0,
}  # fmt: skip
"""Images that pretraining sets hold, in millions, as their papers give them. IN-21k and IN-22k are
ImageNet's whole release. LVD is of DINOv2 and DINOv3, WIT of CLIP, IG-3.6B of SWAG, SA-1B of SAM,
WebLI of PaLI; LAION-2B is the English part of LAION-5B."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A backbone beside its scores.

    Attributes:
        parameters_m: Millions of parameters of the feature extractor; 0 where nobody said.
        pretraining_m: Millions of images of the largest set it was pretrained on; 0 where that is
            not known.
        images_per_second: Forward passes of its architecture as published, on ``DEFAULT_GPU`` of
            ``bob.cost`` and at the size its weights were made for; 0 where nobody measured it.
    """

    backbone: str
    architecture: str = ""
    family: str = ""
    pretraining: str = ""
    licence: str = ""
    url: str = ""
    parameters_m: float = 0.0
    pretraining_m: float = 0.0
    images_per_second: float = 0.0


def facts_of(catalog: Catalog, scores: Iterable[Score]) -> dict[str, Facts]:
    """Facts of every backbone of some rows, from the catalog where it is there."""
    found: dict[str, Facts] = {}
    for score in scores:
        if score.backbone in found:
            continue
        entry = catalog.backbones.get(score.backbone)
        if entry is not None:
            found[score.backbone] = _of_entry(entry)
        else:
            found[score.backbone] = Facts(
                backbone=score.backbone,
                family=score.family,
                pretraining=score.pretraining,
                pretraining_m=pretraining_millions(score.pretraining),
            )
    return found


def _of_entry(entry: BackboneEntry) -> Facts:
    return Facts(
        backbone=entry.key,
        architecture=entry.architecture,
        family=entry.family,
        pretraining=entry.pretraining,
        licence=entry.licence,
        url=entry.url,
        parameters_m=entry.parameters_m or 0.0,
        pretraining_m=pretraining_millions(entry.pretraining),
        images_per_second=_images_per_second(entry),
    )


def _images_per_second(entry: BackboneEntry) -> float:
    described = describe(entry) if is_told(entry) else None
    if described is None or entry.image_size is None:
        return 0.0
    speed = Speeds().forward(described, entry.image_size)
    return 0.0 if speed.rough else speed.images_per_second


def pretraining_millions(text: str) -> float:
    """Millions of images of the largest set that a description names; 0 where none is known."""
    words = re.split(r"[\s,()+]+|->", text)
    return max((_MILLIONS.get(word, 0.0) for word in words), default=0.0)
