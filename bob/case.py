"""The records that cross every boundary: what is to run, what came out, what it means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bob.catalog.schema import BackboneEntry, DatasetEntry
from bob.hashing import digest_of
from bob.protocols import PROTOCOLS, Judged, Recipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Case:
    """One backbone put through one task on one dataset at one scale with one seed.

    Attributes:
        recipe: Fully resolved settings of the task.
        margins: Smallest change for the worse that matters, by judged metric: a difference, or a
            share where the metric's scale is logarithmic. 0 for one that is not named.
        reference_seeds: Seeds a reference of this case is measured over.
    """

    backbone: BackboneEntry
    task: str
    dataset: DatasetEntry
    scale: str
    recipe: Recipe
    seed: int = 0
    margins: Mapping[str, float] = field(default_factory=dict)
    reference_seeds: int = 8

    @property
    def name(self) -> str:
        """Readable name within a task: ``backbone-dataset``, and the variant if any."""
        return "-".join(filter(None, (self.backbone.key, self.dataset.key, self.variant)))

    @property
    def engine(self) -> str:
        """The engine, where the task has several; empty elsewhere."""
        return self.recipe.engine_name

    @property
    def variant(self) -> str:
        """The engine if any, and ``grid`` where the recipe is chosen from one."""
        return self.recipe.variant

    @property
    def setting(self) -> str:
        """Key in a reference file: ``task/dataset``, and the variant if any."""
        return "/".join(filter(None, (self.task, self.dataset.key, self.variant)))

    @property
    def judged(self) -> tuple[Judged, ...]:
        """The judged metrics that recipe and dataset give, the score first."""
        return tuple(
            metric
            for metric in PROTOCOLS[self.task].judged
            if metric.name not in self.recipe.unjudged
            and (not metric.kinds or self.dataset.kind in metric.kinds)
        )

    @property
    def metric(self) -> str:
        """Name of the score: the first of the judged metrics."""
        return PROTOCOLS[self.task].metric

    @property
    def margin(self) -> float:
        """The score's margin."""
        return self.margins.get(self.metric, 0.0)

    @property
    def seeded(self) -> bool:
        """Whether the seed can matter: to the protocol, or to the weights."""
        return PROTOCOLS[self.task].seeded or not self.backbone.fixed

    @cached_property
    def protocol(self) -> str:
        """Hash of all that makes two scores comparable: the case less backbone and seed."""
        return digest_of(self._protocol_facts())

    @cached_property
    def id(self) -> str:
        """Hash of everything that changes the score and of nothing that does not."""
        return digest_of(
            {
                "protocol": self._protocol_facts(),
                "backbone": self.backbone.identity,
                "seed": self.seed,
            }
        )

    def with_seed(self, seed: int) -> Case:
        """The same case with another seed."""
        return replace(self, seed=seed)

    def _protocol_facts(self) -> dict[str, Any]:
        return {
            **PROTOCOLS[self.task].identity,
            "dataset": self.dataset.identity,
            "recipe": self.recipe.model_dump(mode="json"),
        }


def run_key(case: Case, *, weights: str, data: str, factory: str) -> str:
    """Hash of a case and of what was loaded for it.

    Args:
        case: What was planned.
        weights: Digest of the weights.
        data: Digest of the data.
        factory: Fingerprint of the code that built the backbone; empty where the protocol's
            version covers it.
    """
    return digest_of(
        {"case": case.id, "weights": weights, "data": data, "factory": factory}, length=16
    )


@dataclass(frozen=True, kw_only=True)
class Context:
    """How a case is run; nothing here may change its score beyond rounding.

    Attributes:
        accelerator: ``auto``, ``cpu``, ``cuda`` or ``mps``, as Lightning Fabric names them.
        precision: ``auto`` (bfloat16 mixed on CUDA, float32 elsewhere) or a Fabric precision.
        workers: Loader processes for datasets that decode files.
        features: Folder of the feature store; empty for the user's own.
        features_limit: Bytes the feature store may keep.
    """

    accelerator: str = "auto"
    precision: str = "auto"
    workers: int = 2
    features: str = ""
    features_limit: int = 50 * 2**30


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Sent while a case runs.

    Attributes:
        phase: ``load``, ``loaded`` (with the run key), ``wait`` (another process extracts the same
            features), ``extract``, ``fit``, ``search`` (the next setting of a grid), ``train``,
            ``evaluate`` or ``epoch`` (an epoch has ended).
        metrics: Values of the epoch that ended; empty otherwise.
        run_key: See ``Result``; empty but when the case has just been loaded.
    """

    phase: str
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    run_key: str = ""


Emit = Callable[[Progress], None]
"""Takes progress while a case runs."""


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Per-sample outcomes on the test split, in the split's order.

    They are enough for every proper score that is in use, without running anything again.

    Attributes:
        targets: True classes, ``(n,)`` int64.
        target_log_probabilities: Natural logarithm of the true class's probability, ``(n,)``
            float32.
        top_classes: The five most probable classes (of as many as there are), the most probable
            first, ``(n, k)`` int32.
        top_probabilities: Their probabilities, ``(n, k)`` float32.
        square_sums: Sum of the squares of all classes' probabilities, ``(n,)`` float32, which
            the Brier score needs.
        class_names: One name per class.
        temperature: What logits are divided by to be calibrated, fitted on held-out train images;
            none where nothing was held out.
        scaled_confidences: Probability of the predicted class behind it, ``(n,)`` float32.
    """

    targets: NDArray[np.int64]
    target_log_probabilities: NDArray[np.float32]
    top_classes: NDArray[np.int32]
    top_probabilities: NDArray[np.float32]
    square_sums: NDArray[np.float32]
    class_names: tuple[str, ...]
    temperature: float | None = None
    scaled_confidences: NDArray[np.float32] | None = None

    @property
    def predictions(self) -> NDArray[np.int32]:
        """The most probable class of each sample, ``(n,)``."""
        return self.top_classes[:, 0]

    @property
    def confidences(self) -> NDArray[np.float32]:
        """Its probability, ``(n,)``."""
        return self.top_probabilities[:, 0]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether it is the true class, ``(n,)``."""
        right: NDArray[np.bool_] = self.predictions == self.targets
        return right


@dataclass(frozen=True, kw_only=True)
class QueryOutcomes:
    """What a retrieval found for each query, in the queries' order.

    Attributes:
        average_precisions: Under the recipe's setting, ``(q,)`` float64; NaN without positives.
        first_ranks: Rank of the first positive after junk is removed, counted from 1, ``(q,)``
            int64; 0 without positives.
    """

    average_precisions: NDArray[np.float64]
    first_ranks: NDArray[np.int64]


@dataclass(frozen=True)
class Failure:
    """Why a case has no score.

    Attributes:
        kind: ``input``, ``weights``, ``backbone``, ``dataset``, ``nan-loss``, ``out-of-memory`` or
            ``error`` for what nobody foresaw.
        message: What happened and what to do.
        traceback: Text of the traceback; empty where the message says it all.
    """

    kind: str
    message: str
    traceback: str = ""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One setting of a grid, tried on held-out images of the train split.

    Attributes:
        params: The recipe fields that were set.
        metrics: Held-out metrics after the last epoch; empty where it failed.
        group: What the choice was for, where a case makes several; else empty.
        chosen: Whether the case's score was made with it.
        failure: Why it cannot be chosen; empty where it can.
        seconds: What it took.
    """

    params: Mapping[str, float]
    metrics: Mapping[str, float] = field(default_factory=dict)
    group: str = ""
    chosen: bool = False
    failure: str = ""
    seconds: float = 0.0

    @property
    def label(self) -> str:
        """The setting in words, such as ``lr 0.001, weight_decay 0.05``."""
        return ", ".join(f"{name} {value:g}" for name, value in self.params.items())


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came out of one case.

    Attributes:
        metrics: Final metrics by name; fractions, not percent.
        history: Metrics of every epoch, oldest first.
        run_key: Hash of the case and of what was loaded for it: weights, data, and the code of a
            factory. Two runs of one key are runs of the same thing. Empty where loading failed.
        outcomes: Per-sample outcomes, when the task has them.
        queries: Per-query outcomes of a retrieval.
        timings: Seconds by phase.
        peak_memory_mb: Peak memory on the accelerator, or of the process on CPU.
        environment: Versions, device and precision.
        weights_digest: SHA-256 of the checkpoint file or of the built state dict.
        data_digest: SHA-256 of the data: that of the entry, else of the lists of files and targets.
        files: Further artifacts by name, such as pictures and tables.
        remarks: What went wrong on the way without touching the score.
        trials: Settings of the recipe's grid that were tried; empty without one.
        image_size: Height and width of what the backbone was fed; 0 where they differ by image.
        classes: Classes of the data that were loaded.
        test_size: Images that the score was read on, or queries.
        failure: Set when the case has no score.
    """

    case: Case
    run_key: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    history: tuple[Mapping[str, float], ...] = ()
    outcomes: Outcomes | None = None
    queries: QueryOutcomes | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    peak_memory_mb: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict)
    weights_digest: str = ""
    data_digest: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    trials: tuple[Trial, ...] = ()
    image_size: int = 0
    classes: int = 0
    test_size: int = 0
    failure: Failure | None = None

    @property
    def score(self) -> float | None:
        """Value of the case's metric, or none when the case failed or lacks it."""
        return None if self.failure else self.metrics.get(self.case.metric)


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
        status: The decision: the worst of the comparisons.
        reason: One sentence with the numbers behind it.
        scores: Score by seed.
        comparisons: Each judged metric next to its band, the score first; empty without a
            comparable reference.
        reference_seeds: Seeds of the reference.
        origin: Where the reference comes from: file and day.
        stage: 1, or 2 after extra seeds were run.
        stale: Whether the only reference was measured under another protocol.
        warnings: Remarks that do not change the decision.
        published: Metrics next to published scores, the score first. They never decide.
    """

    status: Status
    reason: str
    scores: Mapping[int, float] = field(default_factory=dict)
    comparisons: tuple[Comparison, ...] = ()
    reference_seeds: tuple[int, ...] = ()
    origin: str = ""
    stage: int = 1
    stale: bool = False
    warnings: tuple[str, ...] = ()
    published: tuple[PublishedComparison, ...] = ()

    @property
    def score(self) -> Comparison | None:
        """The comparison of the score itself."""
        return self.comparisons[0] if self.comparisons else None

    @property
    def mean(self) -> float | None:
        """Mean score over the seeds that ran, if any has one."""
        return sum(self.scores.values()) / len(self.scores) if self.scores else None
