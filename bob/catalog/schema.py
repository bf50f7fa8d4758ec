"""What catalog files may say: backbones, datasets and scales."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator

from bob.frozen import Frozen

Scalar = bool | int | float | str | None
Key = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.]*$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Weights(Frozen):
    """A checkpoint file.

    Attributes:
        file: Path; a relative one is looked up beside the catalog file that names it.
        sha256: Digest the file must have. Checkpoints named on the command line carry none.
    """

    file: str
    sha256: Sha256 | None = None


class BackboneEntry(Frozen):
    """A backbone: how to build it and which weights it carries.

    Attributes:
        key: Name in case ids, tags and reference files.
        family: Architecture family; a scale's recipe may differ by family.
        source: ``timm:NAME`` or ``package.module:factory``.
        arguments: Keyword arguments for timm's ``create_model`` or for the factory.
        weights: Checkpoint to load; without one the source's own weights are used.
        pretraining: What the weights were trained on; ``random`` for none.
        mean: Per-channel mean the inputs are normalised with; the source's own if empty.
        std: Per-channel standard deviation; the source's own if empty.
        scales: Scales that run this backbone when none is named on the command line.
        note: Provenance in a few words.
    """

    key: str
    family: str
    source: str
    arguments: dict[str, Scalar] = Field(default_factory=dict)
    weights: Weights | None = None
    pretraining: str = "unknown"
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    scales: tuple[str, ...] = ()
    note: str = ""

    @field_validator("source")
    @classmethod
    def _source_form(cls, value: str) -> str:
        if not re.fullmatch(r"timm:[\w.\-/:]+|[A-Za-z_][\w.]*:[A-Za-z_]\w*", value):
            raise ValueError("expected 'timm:NAME' or 'package.module:factory'")
        return value

    @property
    def fixed(self) -> bool:
        """Whether the entry is known to give the same weights for every seed."""
        own = self.source.startswith("timm:") and bool(self.arguments.get("pretrained", True))
        return self.weights is not None or own

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What of this entry changes a score."""
        identity = self.model_dump(include={"source", "arguments", "mean", "std"})
        identity["weights"] = self.weights.sha256 or self.weights.file if self.weights else None
        return identity


class RobustnessBaseline(Frozen):
    """What accuracy under shift is usual at an accuracy on the source's test split.

    Effective robustness is the accuracy under shift beyond it (R. Taori et al., NeurIPS 2020).
    The line is fitted on the logit scale: ``logit(shifted) = slope * logit(top1) + intercept``.

    Attributes:
        models: The classifiers it was fitted on, and the command that did it.
    """

    slope: float
    intercept: float
    models: str


class DatasetEntry(Frozen):
    """A dataset.

    Attributes:
        key: Name in case ids and tags.
        kind: ``classification``; ``shift`` with shifted targets besides; ``multilabel``;
            ``retrieval``; ``detection``; or ``detection_shift``.
        loader: ``package.module:function`` returning the loaded dataset.
        sha256: Digest of the data, checked on load; none where the official files are trusted.
        classes: Number of classes; none where only loading tells.
        test_size: Images in the test split, or queries of a retrieval; none where only loading
            tells.
        options: Keyword arguments for the loader.
        baseline: The line that effective robustness is measured from.
        needs: Files and folders under the data root that must be there; ``a|b`` is either.
        obtain: How to get them, in a sentence.
        train_size: Images to learn from, where known.
        licence: Terms of use.
        note: Provenance in a few words.
    """

    key: str
    loader: str
    sha256: Sha256 | None
    classes: int | None = Field(default=None, ge=1)
    test_size: int | None = Field(default=None, ge=1)
    options: dict[str, Scalar] = Field(default_factory=dict)
    kind: Literal[
        "classification", "shift", "multilabel", "retrieval", "detection", "detection_shift"
    ] = "classification"
    baseline: RobustnessBaseline | None = None
    needs: tuple[str, ...] = ()
    obtain: str = ""
    train_size: int | None = Field(default=None, ge=1)
    licence: str = ""
    note: str = ""

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What of this entry changes a score; not where data of a known digest lie."""
        identity = self.model_dump(include={"loader", "sha256", "classes", "options"})
        if self.sha256:
            identity["options"].pop("path", None)
        return identity


class TaskPlan(Frozen):
    """How one scale runs one task.

    Attributes:
        datasets: Dataset keys.
        recipe: Recipe fields that differ from the defaults.
        families: Further differences per architecture family.
        engines: Further differences per engine, for tasks that have several.
        margin: Smallest drop of the judged metric worth a failure (its own unit, 0..1 for top-1).
        reference_seeds: Seeds that ``--bands`` measures unless ``--seeds`` says otherwise.
    """

    datasets: tuple[str, ...] = Field(min_length=1)
    recipe: dict[str, Any] = Field(default_factory=dict)
    families: dict[str, dict[str, Any]] = Field(default_factory=dict)
    engines: dict[str, dict[str, Any]] = Field(default_factory=dict)
    margin: float = Field(default=0.0, ge=0)
    reference_seeds: int = Field(default=8, ge=2)


class ScaleEntry(Frozen):
    """A scale: which tasks run, on which datasets, with which recipes."""

    key: Key
    description: str = ""
    tasks: dict[str, TaskPlan] = Field(min_length=1)


class CatalogFile(Frozen):
    """One catalog file."""

    backbones: dict[Key, dict[str, Any]] = Field(default_factory=dict)
    datasets: dict[Key, dict[str, Any]] = Field(default_factory=dict)
    scales: dict[Key, dict[str, Any]] = Field(default_factory=dict)
