"""What the suite must know of a protocol without importing what runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from bob.errors import unknown
from bob.kinds import DataKind
from bob.protocols.recipe import Recipe
from bob.protocols.work import Sizes, Work

Unit = Literal["proportion", "bounded", "positive", "real"]
UNITS: tuple[Unit, ...] = get_args(Unit)

_SCALES: dict[Unit, Literal["angular", "log", "linear"]] = {
    "proportion": "angular", "bounded": "angular", "positive": "log", "real": "linear",
}  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """A metric that is held against a band. Its margin is data: see ``bob/catalog/margins.yaml``.

    Attributes:
        name: Key in ``Result.metrics``.
        unit: What kind of number it is, which decides how its noise is reckoned. ``proportion``: a
            share of n test images, or the mean of such shares on the same images; n says how surely
            it is known. ``bounded``: a score from 0 to 1 with no single n behind it, as an average
            precision, an area under a curve or a mean over groups of different sizes.
            ``positive``: a positive number whose noise is relative, as a loss. ``real``: any other.
        higher_is_better: Which side of the band is worse.
        kinds: Kinds of dataset that give the metric; empty for every kind the task takes.

    Raises:
        BobError: There is no such unit.
    """

    name: str
    unit: Unit
    higher_is_better: bool = True
    kinds: tuple[DataKind, ...] = ()

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise unknown("unit", self.unit, UNITS, hint=f"Judged metric {self.name!r} needs one.")

    @property
    def scale(self) -> Literal["angular", "log", "linear"]:
        """Where the spread is pooled: where it depends on the value the least.

        ``angular``, the arcsine of the square root, for what lies between 0 and 1; ``log`` for
        positive numbers; ``linear`` otherwise.
        """
        return _SCALES[self.unit]

    def holds(self, value: float) -> bool:
        """Whether a finite value is one of the unit, up to rounding."""
        if self.scale == "linear":
            return True
        return value >= -1e-6 and (self.scale == "log" or value <= 1 + 1e-6)

    @property
    def sign(self) -> int:
        """1 where a higher value is better, -1 where a lower one is."""
        return 1 if self.higher_is_better else -1


@dataclass(frozen=True)
class Extraction:
    """How frozen features come about, as far as it decides scores.

    Attributes:
        version: Of the code that extracts them.
        crop: Share of the shorter edge that the central crop of a test image keeps.
    """

    version: int
    crop: float


FIRST_EXTRACTION = Extraction(version=1, crop=0.875)
"""What the first protocols read. It is hashed as if it were not there, so that their ids stand."""

EXTRACTION = Extraction(version=1, crop=0.875)
"""How features are extracted today. A change gives every protocol that reads them a new id.

The crop is that of the paper's probe and retrieval: a shorter side of 256 for 224 pixels."""


@dataclass(frozen=True)
class ProtocolSpec:
    """What the suite must know of a protocol without importing what runs it.

    Attributes:
        name: Key in scales, markers and experiments.
        runner: ``package.module:function`` called as ``function(job)`` and returning a
            ``TaskOutput``.
        recipe: Model of the recipe.
        work: What one run costs, of a recipe of that model and the sizes of a case.
        judged: The judged metrics; the first one is the score, the others guard it.
        description: One line for `pytest --markers` and `bob list tasks`.
        seeded: Whether the protocol itself draws from the seed. One that does not gives the same
            score for the same weights every time, and its band is exact.
        data: Kind of dataset it runs on; a dataset with shifts also serves classification.
        released_head: Whether it reads the classifier the checkpoint was released with: the runner
            receives a ``ReleasedClassifier`` in place of a ``Backbone``.
        version: Raised when the code of this protocol changes so that its scores are no longer
            comparable. Other protocols keep theirs.
        extraction: How the features it reads are extracted; none where it reads none.
        spreads: Whether its runner takes several devices: it gives the job's ``group`` to what
            trains, or has features extracted by the job's ``crew``.
    """

    name: str
    runner: str
    recipe: type[Recipe]
    work: Callable[[Any, Sizes], Work]
    judged: tuple[Judged, ...]
    description: str
    seeded: bool = True
    data: DataKind = "classification"
    released_head: bool = False
    version: int = 1
    extraction: Extraction | None = None
    spreads: bool = False

    @property
    def metric(self) -> str:
        """Name of the score."""
        return self.judged[0].name

    def takes(self, kind: DataKind) -> bool:
        """Whether the protocol runs on datasets of a kind."""
        return kind == self.data or (kind == "shift" and self.data == "classification")

    @property
    def detects(self) -> bool:
        """Whether it detects objects; a detector brings the backbone to the size of the images."""
        return self.data in ("detection", "detection_shift")

    @property
    def identity(self) -> dict[str, Any]:
        """What of the protocol itself changes a score, besides its recipe and data."""
        identity: dict[str, Any] = {"version": self.version, "task": self.name}
        if self.extraction not in (None, FIRST_EXTRACTION):
            assert self.extraction is not None
            identity["extraction"] = [self.extraction.version, self.extraction.crop]
        return identity
