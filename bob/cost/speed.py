"""How fast a backbone is and how much memory it takes, from the published table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from bob.catalog.schema import BackboneEntry
from bob.cost.table import DEFAULT_GPU, Row, check_gpu, family_of, patch_of, rows

SPEED_BY_PARAMETERS = 0.8
"""Exponent of the ratio of parameters between two architectures of a family."""
MEMORY_BY_PARAMETERS = 0.6
_CARD_BYTES = 24 * 2**30
BYTES_PER_PARAMETER = 16
"""Weights, gradients and both of AdamW's moments in single precision."""


@dataclass(frozen=True)
class Backbone:
    """What the table is asked about.

    Attributes:
        architecture: timm's name without the checkpoint's; empty for a factory.
        family: Architecture family, for what the table lacks.
        parameters_m: Millions, without classifier.
    """

    architecture: str
    family: str
    parameters_m: float


@dataclass(frozen=True)
class Speed:
    """Forward passes per second.

    Attributes:
        basis: Where the figure comes from, in words.
        rough: Whether another architecture or GPU was measured.
    """

    images_per_second: float
    basis: str
    rough: bool = False


def architecture_of(source: str) -> str:
    """Timm's architecture in ``timm:NAME``; empty for a factory."""
    if not source.startswith("timm:"):
        return ""
    return source.removeprefix("timm:").rsplit("/", 1)[-1].rsplit(":", 1)[-1].split(".")[0]


def describe(entry: BackboneEntry) -> Backbone | None:
    """What the table can be asked about a backbone.

    torch is imported only for an entry that neither the catalog nor the table gives the parameters
    of; its architecture is then built without memory for its weights.

    Returns:
        None where nothing tells the number of parameters.
    """
    architecture = architecture_of(entry.source)
    count = entry.parameters_m
    if count is None:
        count = next((r.parameters_m for r in rows() if r.architecture == architecture), None)
    if count is None:
        from bob.cost.meta import parameters_m

        count = parameters_m(entry)
    if count is None:
        return None
    family = family_of(architecture) if architecture else entry.family
    return Backbone(architecture, family, max(count, 0.01))


class Speeds:
    """The table as one GPU.

    Args:
        gpu: A GPU of the table, in any case.

    Raises:
        BobError: The table has no such GPU.
    """

    def __init__(self, gpu: str = DEFAULT_GPU) -> None:
        self.gpu = check_gpu(gpu)

    def forward(self, backbone: Backbone, side: float) -> Speed:
        """Images per second of inference on square images.

        Of the same architecture the row of the nearest resolution is taken and scaled with the
        number of pixels; else the nearest of the family by parameters, scaled with tokens and
        parameters; else the nearest of any family. No backbone is taken to be faster than the
        fastest of the table, because smaller ones wait for the processor.

        Args:
            backbone: What runs.
            side: Height and width in pixels.
        """
        row = _same(self._rows, backbone, side)
        if row is not None:
            basis = row.architecture
            if row.image_size != side:
                basis += f" at {row.image_size} px"
            return self._speed(row, (row.image_size / side) ** 2, basis, rough=False)
        other = _same(self._others, backbone, side)
        if other is not None:
            scale = (other.image_size / side) ** 2 * self._ratio
            return self._speed(other, scale, f"{other.architecture} on {DEFAULT_GPU}", rough=True)
        row = _nearest(self._rows if self.gpu == DEFAULT_GPU else self._all, backbone, side)
        scale = _tokens(row, backbone, side) * (
            (row.parameters_m / backbone.parameters_m) ** SPEED_BY_PARAMETERS
        )
        scale *= 1.0 if row.gpu == self.gpu else self._ratio
        return self._speed(row, scale, f"nearest: {row.architecture}", rough=True)

    def _speed(self, row: Row, scale: float, basis: str, *, rough: bool) -> Speed:
        return Speed(min(row.images_per_second * scale, self._fastest), basis, rough)

    @cached_property
    def _fastest(self) -> float:
        return max(one.images_per_second for one in self._all)

    @cached_property
    def _rows(self) -> Sequence[Row]:
        return _measured(self.gpu)

    @cached_property
    def _others(self) -> Sequence[Row]:
        return () if self.gpu == DEFAULT_GPU else _measured(DEFAULT_GPU)

    @cached_property
    def _all(self) -> Sequence[Row]:
        return (*self._rows, *self._others)

    @cached_property
    def _ratio(self) -> float:
        """This GPU's speed as a multiple of the default's, over what both were measured on."""
        theirs = {(r.architecture, r.image_size): r.images_per_second for r in self._others}
        shared = [
            row.images_per_second / theirs[row.architecture, row.image_size]
            for row in self._rows
            if (row.architecture, row.image_size) in theirs
        ]
        return median(shared) if shared else 1.0


def activation_bytes(backbone: Backbone, side: float) -> float:
    """Memory that training holds per square image, in mixed precision.

    From the batch that a published training benchmark fitted into a card of 24 GiB; that was
    halved or cut by a third until it fitted, and software has become thriftier since, so that this
    is an upper bound in most cases.
    """
    measured = [row for row in rows() if row.mode == "train"]
    row = _same(measured, backbone, side) or _nearest(measured, backbone, side)
    each = (_CARD_BYTES - BYTES_PER_PARAMETER * row.parameters_m * 1e6) / row.batch_size
    scale: float = (backbone.parameters_m / row.parameters_m) ** MEMORY_BY_PARAMETERS
    return each * scale / _tokens(row, backbone, side)


def _measured(gpu: str) -> tuple[Row, ...]:
    return tuple(one for one in rows() if one.gpu == gpu and one.mode == "infer")


def _same(among: Iterable[Row], backbone: Backbone, side: float) -> Row | None:
    same = [one for one in among if one.architecture == backbone.architecture]
    return min(same, key=lambda one: _apart(one.image_size, side)) if same else None


def _nearest(among: Sequence[Row], backbone: Backbone, side: float) -> Row:
    family = [one for one in among if family_of(one.architecture) == backbone.family]
    return min(
        family or among,
        key=lambda one: (
            _apart(one.parameters_m, backbone.parameters_m),
            _apart(one.image_size, side),
            one.architecture,
        ),
    )


def _tokens(row: Row, backbone: Backbone, side: float) -> float:
    """Tokens of the row's measurement by those of the backbone at ``side``."""
    theirs = row.image_size / patch_of(row.architecture)
    own = side / patch_of(backbone.architecture)
    return (theirs / own) ** 2


def _apart(one: float, other: float) -> float:
    return abs(math.log(one / other))
