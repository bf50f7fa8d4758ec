"""What scores mean next to their references."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Status(StrEnum):
    """What a score means next to its reference."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NO_REFERENCE = "no reference"
    SKIPPED = "skipped"
    """There is no score because weights or data are out of reach."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One judged metric next to its band.

    Attributes:
        value: Mean over the seeds that ran.
        low: Lower edge of the band for a mean of this many seeds.
        high: Upper edge.
        reference: Mean of the reference.
        z: Signed distance from the reference in standard errors of prediction.
        status: ``PASS``, ``FAIL`` or ``INCONCLUSIVE``.
        improved: Whether the value lies beyond the better edge.
        exact: Whether nothing is random, so that the band is the margin alone and ``z`` says
            nothing.
    """

    metric: str
    value: float
    low: float
    high: float
    reference: float
    z: float
    status: Status
    improved: bool = False
    exact: bool = False

    @property
    def delta(self) -> float:
        """Value less the reference's mean."""
        return self.value - self.reference


@dataclass(frozen=True, kw_only=True)
class PublishedComparison:
    """One metric next to the score that others published for the same thing. Advisory.

    Attributes:
        value: Mean over the seeds that ran.
        published: The published score.
        width: How far apart independent reproductions of such a score lie.
        source: Repository, path and commit it was published in.
    """

    metric: str
    value: float
    published: float
    width: float
    source: str

    @property
    def delta(self) -> float:
        """Value less the published score."""
        return self.value - self.published

    @property
    def agrees(self) -> bool:
        """Whether the two lie within the width of each other, up to rounding."""
        return abs(self.delta) <= self.width + 1e-9


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the scores of a case mean.

    Attributes:
        status: The decision: the worst of the comparisons and of ``together``.
        reason: One sentence with the numbers behind it.
        scores: Score by seed.
        comparisons: Each judged metric next to its band, the score first; empty without a
            comparable reference.
        together: All judged metrics as one, in deviations of the case; none where there is a single
            one or no spread to reckon with.
        reference_seeds: Seeds of the reference.
        origin: Where the reference comes from: file and day.
        detectable: Drop of the score that the reference's band sees in four cases of five; none
            without a band, or where nothing is random.
        guards_little: Whether that is a large share of the score, or the reference itself is no
            better than chance or the same network without pretraining, or too near to them to tell.
        stage: 1, or 2 after extra seeds were run.
        unchanged: Whether a seed of the reference gave its values again in the same environment, so
            that nothing has changed; ``scores`` and ``comparisons`` are of that seed then.
        stale: Whether the only reference was measured under another protocol.
        warnings: Remarks that do not change the decision.
        published: Metrics next to published scores, the score first. They never decide.
    """

    status: Status
    reason: str
    scores: Mapping[int, float] = field(default_factory=dict)
    comparisons: tuple[Comparison, ...] = ()
    together: Comparison | None = None
    reference_seeds: tuple[int, ...] = ()
    origin: str = ""
    detectable: float | None = None
    guards_little: bool = False
    stage: int = 1
    unchanged: bool = False
    stale: bool = False
    warnings: tuple[str, ...] = ()
    published: tuple[PublishedComparison, ...] = ()

    @property
    def deciding(self) -> tuple[Comparison, ...]:
        """Everything that decides: the comparisons, and that of all metrics together."""
        return (*self.comparisons, *([self.together] if self.together else []))

    @property
    def score(self) -> Comparison | None:
        """The comparison of the score itself."""
        return self.comparisons[0] if self.comparisons else None

    @property
    def mean(self) -> float | None:
        """Mean score over the seeds that ran, if any has one."""
        return sum(self.scores.values()) / len(self.scores) if self.scores else None
