"""Features of shipped micro backbones on shipped data, extracted once a test process."""

from __future__ import annotations

import tempfile
from functools import cache
from typing import NamedTuple

import torch

from bob.backbones import build_backbone
from bob.case import Case, Context
from bob.catalog import load_catalog
from bob.datasets import ClassificationData, load_dataset
from bob.features import FeatureSource
from bob.plan import Plan, Selection
from tests.jobs import make_job

MICRO = tuple(
    f"{family}_micro_{weights}"
    for family in ("swin", "vit", "convnext", "resnet")
    for weights in ("random", "glyphs")
)
DATASETS = {"digits": "linear_probe", "digits_c": "ood", "font_digits": "ood"}
"""Each smoke dataset on which a probe chooses its strength, and the task that does."""


class Split(NamedTuple):
    """Features ``(n, d)`` and classes ``(n,)`` of a train and a test split."""

    train: torch.Tensor
    targets: torch.Tensor
    test: torch.Tensor
    test_targets: torch.Tensor


def case_of(backbone: str, dataset: str) -> Case:
    """The smoke case whose probe learns on a dataset."""
    cases = Plan(load_catalog(), Selection(backbones=(backbone,))).cases(DATASETS[dataset])
    (case,) = (case for case in cases if case.dataset.key == dataset)
    return case


@cache
def features_of(backbone: str, dataset: str) -> Split:
    """Features of one backbone under seed 0."""
    case = case_of(backbone, dataset)
    data = load_dataset(case.dataset)
    assert isinstance(data, ClassificationData)
    torch.manual_seed(0)
    built = build_backbone(case.backbone, image_size=case.recipe.input_size)
    with tempfile.TemporaryDirectory() as folder:
        context = Context(accelerator="cpu", workers=0, features=folder)
        source = FeatureSource(make_job(case, built, data, context=context))
        train = source.features(data.train, "train").tensor().clone()
        test = source.features(data.test, "test").tensor().clone()
    return Split(train, data.train.targets, test, data.test.targets)
