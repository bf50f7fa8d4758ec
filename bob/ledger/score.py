"""Score rows: what ranking, profile, comparison, report and export know, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bob.case import DetectionOutcomes, Result
from bob.ledger.records import Recorded
from bob.ledger.units import Units, units_of_result
from bob.protocols import PROTOCOLS, Judged

PUBLISHED = "published"
"""Role of a score that others published: it was read off their table, not measured by the suite."""

RunId = tuple[str, str, str, str]
"""Session, backbone, run key (of references setting and seed) and role. One run key is run again by
other sessions, with other libraries or another commit, and need not come to the same. A backbone
that stands under two names has one run key too, and so have a check and the reference that is
measured after it."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One value of one metric of one run.

    Attributes:
        pretraining: What the weights were trained on.
        variant: Engine or ``grid``; empty for neither.
        unit: Of a judged metric: ``proportion``, ``bounded``, ``positive`` or ``real``; else empty.
        higher_is_better: None where the protocol does not judge the metric.
        is_score: Whether it is the protocol's score, not a guard or a remark.
        test_size: Images, or queries, that the score was read on; 0 where it is not known.
        seeded: Whether another seed may give another score; None where it is not known.
        scale: Empty for a published score, which is of none.
        protocol: Hash of all that makes two scores comparable; words for a published one.
        case: Id of what was planned.
        run_key: Of what was loaded besides.
        role: ``check``, ``reference`` or ``published``.
        version: Of the suite.
        weights: Digest of the weights.
        data: Digest of the data.
        environment: Versions and device as ``name=value``, joined by ``; ``; the source of a
            published score.
        seconds: What the run took.
        device: Where it ran.
        gpu_hours: 0 on a CPU.
        session: Session of the run; empty for a reference.
        mlflow_run: Id of its MLflow run; empty where there is none or it is not known.
        time: When it was finished, ISO 8601 in UTC; a day for a reference.
    """

    backbone: str
    family: str = ""
    pretraining: str = ""
    task: str
    dataset: str
    variant: str = ""
    scale: str
    seed: int
    metric: str
    unit: str = ""
    value: float
    higher_is_better: bool | None = None
    is_score: bool = False
    test_size: int = 0
    seeded: bool | None = None
    protocol: str
    case: str = ""
    run_key: str = ""
    role: str = "check"
    version: str = ""
    weights: str = ""
    data: str = ""
    environment: str = ""
    seconds: float = 0.0
    device: str = ""
    gpu_hours: float = 0.0
    session: str = ""
    mlflow_run: str = ""
    time: str = ""

    @property
    def setting(self) -> str:
        """``task/dataset``, and the variant if any."""
        return "/".join(filter(None, (self.task, self.dataset, self.variant)))

    @property
    def case_name(self) -> str:
        """``task[backbone-dataset]``, and the variant if any, as pytest's ``-k`` chooses it."""
        name = "-".join(filter(None, (self.backbone, self.dataset, self.variant)))
        return f"{self.task}[{name}]"

    @property
    def run(self) -> RunId:
        """Whose outcomes per image or query belong to it; see ``units_of``."""
        key = self.run_key or f"{self.setting} {self.seed}"
        return self.session, self.backbone, key, self.role


def score_rows(recorded: Recorded, *, mlflow_run: str = "") -> Iterator[Score]:
    """A row for every metric of a result; none where the case failed."""
    result = recorded.result
    if result.failure is not None:
        return
    case, environment = result.case, result.environment
    judged = {metric.name: metric for metric in case.judged}
    described = "; ".join(f"{key}={value}" for key, value in sorted(environment.items()))
    seconds = result.timings.get("total", 0.0)
    device = environment.get("device", "")
    for name, value in result.metrics.items():
        metric = judged.get(name)
        yield Score(
            backbone=case.backbone.key,
            family=case.backbone.family,
            pretraining=case.backbone.pretraining,
            task=case.task,
            dataset=case.dataset.key,
            variant=case.variant,
            scale=case.scale,
            seed=case.seed,
            metric=name,
            unit=unit_of(metric),
            value=float(value),
            higher_is_better=metric.higher_is_better if metric else None,
            is_score=name == case.metric,
            test_size=size_behind(result),
            seeded=case.seeded,
            protocol=case.protocol,
            case=case.id,
            run_key=result.run_key,
            role=recorded.role,
            version=recorded.version,
            weights=result.weights_digest,
            data=result.data_digest,
            environment=described,
            seconds=seconds,
            device=device,
            gpu_hours=0.0 if device.startswith("cpu") or not device else seconds / 3600,
            session=recorded.session,
            mlflow_run=mlflow_run,
            time=recorded.time,
        )


def size_behind(result: Result) -> int:
    """Images, or queries, behind a result's score; 0 where nobody knows."""
    return result.test_size or result.case.dataset.test_size or 0


def units_of(recorded: Iterable[Recorded]) -> dict[RunId, Units]:
    """Outcomes per image or query of the runs that have some and a run key; of one run the last."""
    found = {}
    for entry in recorded:
        result = entry.result
        units = units_of_result(result) if result.run_key else None
        if units is not None:
            found[entry.session, result.case.backbone.key, result.run_key, entry.role] = units
    return found


def detections_of(recorded: Iterable[Recorded]) -> dict[RunId, DetectionOutcomes]:
    """What average precision is computed from, as ``units_of``."""
    found = {}
    for entry in recorded:
        result = entry.result
        if result.run_key and result.detections is not None:
            run = entry.session, result.case.backbone.key, result.run_key, entry.role
            found[run] = result.detections
    return found


def unit_of(metric: Judged | None) -> str:
    """Unit of a judged metric; empty for one that is not judged."""
    return metric.unit if metric else ""


def ordered_tasks(scores: Iterable[Score]) -> list[str]:
    """Tasks of some rows in the order protocols are told in, unknown ones last."""
    tasks = {score.task for score in scores}
    known = [task for task in PROTOCOLS if task in tasks]
    return [*known, *sorted(tasks.difference(known))]


def best_scores(scores: Iterable[Score]) -> list[Score]:
    """The rows of scores proper: no guards and no remarks."""
    return [score for score in scores if score.is_score]
