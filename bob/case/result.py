"""What came out of a case: metrics, outcomes, tried settings, or why there is no score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bob.case.contributions import Contributions
from bob.case.detections import DetectionOutcomes
from bob.case.planned import Case
from bob.redaction import redacted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Content = bytes | Callable[[], bytes | None]
"""An artifact, or a function that makes it, which is called behind the runner: what it raises costs
the artifact and not the result. None where there is nothing to show."""


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
        kind: ``input``, ``weights``, ``backbone``, ``dataset``, ``nan-loss``, ``out-of-memory``,
            ``exit`` (code that ends the process), ``stopped`` by something outside such as a
            plugin's time limit, or ``error`` for what nobody foresaw.
        message: What happened and what to do.
        traceback: Text of the traceback; empty where the message says it all.

    Passwords and tokens are left out of both.
    """

    kind: str
    message: str
    traceback: str = ""

    def __post_init__(self) -> None:
        for name in ("message", "traceback"):
            object.__setattr__(self, name, redacted(getattr(self, name)))


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
        contributions: Of each image to a score over shifts or draws.
        detections: What average precision is computed from.
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
        recognised: Whether the case was loaded, turned out to be of a run key that is known, and
            was not run; see ``Context.known``. Nothing else but its run key is set then.
    """

    case: Case
    run_key: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    history: tuple[Mapping[str, float], ...] = ()
    outcomes: Outcomes | None = None
    queries: QueryOutcomes | None = None
    contributions: Contributions | None = None
    detections: DetectionOutcomes | None = None
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
    recognised: bool = False

    @property
    def score(self) -> float | None:
        """Value of the case's metric, or none when the case failed or lacks it."""
        return None if self.failure else self.metrics.get(self.case.metric)
