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
class ArchitectureFacts:
    """What the table is asked about.

    Attributes:
        name: timm's, without the checkpoint's; empty for a factory.
        family: Architecture family, for what the table lacks.
        parameters_m: Millions, without classifier.
    """

    name: str
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


def is_told(entry: BackboneEntry) -> bool:
    """Whether catalog or table give a backbone's parameters, so that nothing has to be built."""
    name = architecture_of(entry.source)
    return entry.parameters_m is not None or any(row.architecture == name for row in rows())


def describe(entry: BackboneEntry) -> ArchitectureFacts | None:
    """What the table can be asked about a backbone.

    torch is imported only for an entry that neither the catalog nor the table gives the parameters
    of; its architecture is then built without memory for its weights.

    Returns:
        None where nothing tells the number of parameters.
    """
    name = architecture_of(entry.source)
    count = entry.parameters_m
    if count is None:
        count = next((r.parameters_m for r in rows() if r.architecture == name), None)
    if count is None:
        from bob.cost.meta import parameters_m

        count = parameters_m(entry)
    if count is None:
        return None
    family = family_of(name) if name else entry.family
    return ArchitectureFacts(name, family, max(count, 0.01))


class Speeds:
    """The table as one GPU.

    Args:
        gpu: A GPU of the table, in any case.

    Raises:
        BobError: The table has no such GPU.
    """

    def __init__(self, gpu: str = DEFAULT_GPU) -> None:
        self.gpu = check_gpu(gpu)

    def forward(self, facts: ArchitectureFacts, side: float) -> Speed:
        """Images per second of inference on square images.

        Of the same architecture the row of the nearest resolution is taken and scaled with the
        number of pixels; else the nearest of the family by parameters, scaled with tokens and
        parameters; else the nearest of any family. No backbone is taken to be faster than the
        fastest of the table, because smaller ones wait for the processor.

        Args:
            facts: What runs.
            side: Height and width in pixels.
        """
        row = _same(self._rows, facts, side)
        if row is not None:
            basis = row.architecture
            if row.image_size != side:
                basis += f" at {row.image_size} px"
            return self._speed(row, (row.image_size / side) ** 2, basis, rough=False)
        elsewhere = _same(self._others, facts, side)
        if elsewhere is not None:
            scale = (elsewhere.image_size / side) ** 2 * self._ratio
            basis = f"{elsewhere.architecture} on {DEFAULT_GPU}"
            return self._speed(elsewhere, scale, basis, rough=True)
        row = _nearest(self._rows if self.gpu == DEFAULT_GPU else self._all, facts, side)
        scale = _tokens(row, facts, side) * (
            (row.parameters_m / facts.parameters_m) ** SPEED_BY_PARAMETERS
        )
        scale *= 1.0 if row.gpu == self.gpu else self._ratio
        return self._speed(row, scale, f"nearest: {row.architecture}", rough=True)

    def _speed(self, row: Row, scale: float, basis: str, *, rough: bool) -> Speed:
        return Speed(min(row.images_per_second * scale, self._fastest), basis, rough)

    @cached_property
    def _fastest(self) -> float:
        return max(row.images_per_second for row in self._all)

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


def activation_bytes(facts: ArchitectureFacts, side: float) -> float:
    """Memory that training holds per square image, in mixed precision.

    From the batch that a published training benchmark fitted into a card of 24 GiB; that was
    halved or cut by a third until it fitted, and software has become thriftier since, so that this
    is an upper bound in most cases.
    """
    measured = [row for row in rows() if row.mode == "train"]
    row = _same(measured, facts, side) or _nearest(measured, facts, side)
    each = (_CARD_BYTES - BYTES_PER_PARAMETER * row.parameters_m * 1e6) / row.batch_size
    scale: float = (facts.parameters_m / row.parameters_m) ** MEMORY_BY_PARAMETERS
    return each * scale / _tokens(row, facts, side)


def _measured(gpu: str) -> tuple[Row, ...]:
    return tuple(row for row in rows() if row.gpu == gpu and row.mode == "infer")


def _same(among: Iterable[Row], facts: ArchitectureFacts, side: float) -> Row | None:
    same = [row for row in among if row.architecture == facts.name]
    return min(same, key=lambda row: _apart(row.image_size, side)) if same else None


def _nearest(among: Sequence[Row], facts: ArchitectureFacts, side: float) -> Row:
    family = [row for row in among if family_of(row.architecture) == facts.family]
    return min(
        family or among,
        key=lambda row: (
            _apart(row.parameters_m, facts.parameters_m),
            _apart(row.image_size, side),
            row.architecture,
        ),
    )


def _tokens(row: Row, facts: ArchitectureFacts, side: float) -> float:
    """Tokens of the row's measurement by those of the backbone at ``side``."""
    theirs = row.image_size / patch_of(row.architecture)
    own = side / patch_of(facts.name)
    return (theirs / own) ** 2


def _apart(first: float, second: float) -> float:
    return abs(math.log(first / second))
