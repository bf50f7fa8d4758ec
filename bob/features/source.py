"""What a task asks for features."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray

from bob.backbones import Backbone
from bob.case import Content, Contributions, Outcomes, Progress, QueryOutcomes
from bob.datasets import AnySplit, Data, Split
from bob.errors import BobError
from bob.features.extract import View
from bob.features.matrix import Features
from bob.features.sharded import extract_for
from bob.features.store import FeatureStore, Request, default_folder
from bob.job import Job, TaskOutput
from bob.metrics.feature_health import ROWS, FeatureHealth, feature_health, spread
from bob.protocols import Recipe
from bob.protocols.spec import EXTRACTION
from bob.training.search import same_randomness
from bob.training.throttle import Throttle


@dataclass
class FeatureSource:
    """Frozen features of a job's backbone, from the store or extracted into it.

    Attributes:
        job: What is run.
        seconds: Time spent on getting features.
        extracted: Images the backbone ran on.
        reused: Images whose features were there.
        remarks: What was found wrong with the store.
        health: Name of the first split whose plain features were asked for, and what they look
            like; a look at every shifted target of a large dataset would cost minutes.
    """

    job: Job[Recipe, Data, Backbone]
    seconds: float = 0.0
    extracted: int = 0
    reused: int = 0
    remarks: list[str] = field(default_factory=list)
    health: tuple[str, FeatureHealth] | None = None
    _store: FeatureStore = field(init=False)
    _started: float = field(default_factory=time.perf_counter, init=False)
    _throttle: Throttle = field(default_factory=Throttle, init=False)

    def __post_init__(self) -> None:
        context = self.job.context
        folder = Path(context.features) if context.features else default_folder()
        self._store = FeatureStore(folder, context.features_limit)

    def features(self, split: AnySplit, name: str, *, view: View | None = None) -> Features:
        """Features of a split of the case's dataset.

        Args:
            split: Images.
            name: The split's name, for messages.
            view: Augmentation; none for the plain images.

        Raises:
            BobError: The split is empty, or a feature is not finite.
        """
        if not len(split):
            raise BobError(
                f"Dataset {self.job.case.dataset.key!r}: its {name} split holds no images.",
                kind="dataset",
            )
        start = time.perf_counter()
        request = self._request(split, name, view)

        def batches() -> Iterable[NDArray[np.float32]]:
            return extract_for(
                self.job,
                split,
                what=request.about,
                view=view,
                advance=lambda done: self._report(done, len(split)),
            )

        # a loader draws a seed: what comes behind may not depend on what the store holds
        with same_randomness():
            found, new = self._found(split, request, batches)
        if view is None and self.health is None:
            self.health = name, feature_health(_spread_rows(found))
        self.extracted += len(split) if new else 0
        self.reused += 0 if new else len(split)
        self.seconds += time.perf_counter() - start
        return found

    def _found(
        self,
        split: AnySplit,
        request: Request,
        batches: Callable[[], Iterable[NDArray[np.float32]]],
    ) -> tuple[Features, bool]:
        """Features from the store, or extracted, and whether they are new."""
        try:
            return self._store.get(
                request,
                batches,
                waiting=lambda: self.job.emit(Progress(phase="wait")),
                remark=self.remarks.append,
                found_out=lambda: split.remarks,
            )
        except OSError as error:
            self.remarks.append(
                f"features of {request.about} could not be stored ({_told(error)}); "
                f"free space in {self._store.root} (`bob features rm`), or name another folder "
                "with --features"
            )
            found = Features([np.concatenate(list(batches()))])
            self.remarks += split.remarks
            return found, True

    def on_device(self, split: AnySplit, name: str, *, view: View | None = None) -> torch.Tensor:
        """Features ``(n, num_features)`` on the job's device; as ``features``."""
        return self.features(split, name, view=view).tensor().to(self.job.device)

    def output(
        self,
        *,
        metrics: Mapping[str, float],
        history: tuple[Mapping[str, float], ...] = (),
        outcomes: Outcomes | None = None,
        queries: QueryOutcomes | None = None,
        contributions: Contributions | None = None,
        files: Mapping[str, Content] | None = None,
        remarks: tuple[str, ...] = (),
    ) -> TaskOutput:
        """A runner's output with what its features cost; keeps the store within its limit."""
        self.close()
        heads = time.perf_counter() - self._started - self.seconds
        return TaskOutput(
            metrics={**metrics, **self._health_metrics, **self.counts},
            history=history,
            outcomes=outcomes,
            queries=queries,
            contributions=contributions,
            timings={"features": self.seconds, "heads": heads},
            files=files or {},
            remarks=(*self.remarks, *self._health_remarks, *remarks),
        )

    def close(self) -> None:
        """Keep the store within its limit, if something was added."""
        if self.extracted:
            try:
                self._store.trim()
            except OSError as error:
                self.remarks.append(f"old features could not be removed: {error}")

    @property
    def counts(self) -> dict[str, float]:
        """Metrics of the store's work."""
        return {"images_extracted": float(self.extracted), "images_reused": float(self.reused)}

    @property
    def _health_metrics(self) -> dict[str, float]:
        return self.health[1].metrics if self.health is not None else {}

    @property
    def _health_remarks(self) -> tuple[str, ...]:
        if self.health is None or not self.health[1].poor:
            return ()
        name, health = self.health
        size = self.job.backbone.image_size
        return (f"the score says little: of the {name} features at {size} pixels {health}",)

    def _request(self, split: AnySplit, name: str, view: View | None) -> Request:
        backbone, entry = self.job.backbone, self.job.case.backbone
        precision = str(self.job.fabric.strategy.precision.precision)
        facts: dict[str, Any] = {
            "extractor": EXTRACTION.version,
            "timm": timm.__version__,
            "source": entry.source,
            "arguments": dict(entry.arguments),
            "weights": backbone.weights_digest,
            **({"state": entry.state} if entry.state else {}),
            "image_size": backbone.image_size,
            "resize": _resize(split),
            "mean": list(backbone.mean),
            "std": list(backbone.std),
            "output": "pooled",
            "precision": precision,
            "split": split.digest,
            "view": view.facts if view else None,
        }
        about = f"{backbone.key} on {self.job.case.dataset.key} {name}"
        return Request(
            facts=facts,
            about=f"{about}, view {view.epoch} of seed {view.seed}" if view else about,
            rows=len(split),
            width=backbone.num_features,
            half="16" in precision,
            fingerprint=backbone.fingerprint,
        )

    def _report(self, done: int, total: int) -> None:
        if self._throttle.due():
            self.job.emit(Progress(phase="extract", step=done, steps=total))


def _told(error: OSError) -> str:
    named = f": {error.filename}" if error.filename else ""
    return f"{error.strerror}{named}" if error.strerror else str(error)


def _spread_rows(features: Features) -> torch.Tensor:
    if len(features) <= ROWS:
        return features.tensor()
    positions = spread(len(features)).tolist()
    return torch.cat([features.rows(position, position + 1) for position in positions])


def _resize(split: AnySplit) -> str:
    if isinstance(split, Split):
        return "bicubic, antialiased"
    return f"bicubic, shorter side / {EXTRACTION.crop:g}, centre"
