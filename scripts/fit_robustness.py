"""Fit the line that effective robustness is measured from, and print it for the catalog.

The usual models are those that never saw anything but the source: probes on micro backbones at
their random initialisation and on pooled pixels, each learnt on growing parts of the train split.
Through their accuracies on the source's test split and under shift a straight line is laid on the
logit scale (R. Taori et al., NeurIPS 2020)::

    python scripts/fit_robustness.py digits_c font_digits
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import torch

from bob.backbones import build_backbone
from bob.case import Case, Context
from bob.catalog import Catalog, load_catalog
from bob.datasets import ShiftData, load_dataset
from bob.datasets.subsets import shuffled
from bob.distributed.strategy import make_fabric
from bob.features import FeatureSource
from bob.heads.probe import fit_probe
from bob.job import Job
from bob.metrics.classification import top_k
from bob.metrics.shift import logit, score_shift, shift_metrics
from bob.plan import Plan, Selection
from bob.protocols.linear_probe import ProbeRecipe

SIZES = (60, 120, 300, 600, 1200)
SEEDS = (0, 1)
SPECS = (
    "swin_micro_random",
    "vit_micro_random",
    "convnext_micro_random",
    "resnet_micro_random",
    "bob.backbones.micro:pooled_pixels,grid=4,name=pixels_4",
    "bob.backbones.micro:pooled_pixels,grid=8,name=pixels_8",
)


def points(case: Case, data: ShiftData) -> Iterator[tuple[float, float]]:
    """Accuracy on the source and under shift of one backbone's probes."""
    recipe = case.recipe
    assert isinstance(recipe, ProbeRecipe)
    fabric = make_fabric("cpu", "auto")
    for seed in SEEDS if case.seeded and "pixels" not in case.backbone.key else (0,):
        torch.manual_seed(seed)
        backbone = build_backbone(case.backbone, image_size=recipe.image_size)
        source = FeatureSource(
            Job(
                case=case,
                recipe=recipe,
                backbone=backbone,
                data=data,
                fabric=fabric,
                context=Context(),
                emit=lambda progress: None,
                seed=seed,
            )
        )
        train, test = (
            source.features(split, name).tensor()
            for split, name in ((data.train, "train"), (data.test, "test"))
        )
        shifted = [source.features(shift.split, shift.name).tensor() for shift in data.shifts]
        for size in SIZES:
            rows = torch.from_numpy(shuffled(len(train), "robustness", size)[:size].copy())
            probe = fit_probe(
                train[rows],
                data.train.targets[rows],
                classes=len(data.class_names),
                values=recipe.c,
                holdout=recipe.holdout,
            )
            logits = probe.head.logits(test)
            scores = [
                score_shift(shift, probe.head.logits(features), logits, data.test.targets)
                for shift, features in zip(data.shifts, shifted, strict=True)
            ]
            top1 = top_k(logits, data.test.targets)
            yield top1, shift_metrics(scores, top1, len(data.test), None)["shifted_top1"]


def fit_line(catalog: Catalog, key: str) -> None:
    """Print the entry of one dataset."""
    measured: list[tuple[float, float]] = []
    data = load_dataset(catalog.dataset(key))
    assert isinstance(data, ShiftData), f"{key} has no shifts"
    for case in Plan(catalog, Selection(backbones=SPECS)).cases("ood"):
        if case.dataset.key == key:
            case_points = list(points(case, data))
            measured += case_points
            print(
                f"# {case.name}: " + ", ".join(f"{a:.3f} -> {b:.3f}" for a, b in case_points),
                flush=True,
            )
    size = len(data.test)
    x = np.array([logit(top1, size) for top1, _ in measured])
    y = np.array([logit(shifted, size) for _, shifted in measured])
    slope, intercept = np.polyfit(x, y, 1)
    spread = np.std(y - slope * x - intercept)
    print(f"{key}:")
    print("    baseline:")
    print(f"      slope: {slope:.4f}")
    print(f"      intercept: {intercept:.4f}")
    print(f"# {len(measured)} classifiers, residual {spread:.3f} on the logit scale")


def main() -> None:
    """Command line."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("datasets", nargs="+")
    catalog = load_catalog()
    for key in command.parse_args().datasets:
        fit_line(catalog, key)


if __name__ == "__main__":
    main()
