"""Whether a reference is of given weights, which decides whether its band is exact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from bob.case import Case, Context, Result, Status
from bob.catalog import load_catalog
from bob.plan import Plan, Selection
from bob.references.comparison import is_exact
from bob.references.files import ReferenceStore
from bob.references.forms import Reference
from bob.references.judge import Gate
from bob.run import run_case

OWN = "tests.test_reference_weights:own_weights"


def own_weights() -> nn.Module:
    """A factory that gives the same weights whatever the seed is, after drawing others."""
    network = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, 32))
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        network[2].weight.copy_(torch.randn(32, 192, generator=generator) / 14)
    nn.init.zeros_(network[2].bias)
    return network


def case_of(backbone: str) -> Case:
    return Plan(load_catalog(), Selection(backbones=(backbone,))).cases("knn")[0]


def results_of(backbone: str, seeds: tuple[int, ...]) -> list[Result]:
    context = Context(accelerator="cpu", workers=0)
    results = [run_case(case_of(backbone).with_seed(seed), context) for seed in seeds]
    assert all(result.failure is None for result in results)
    return results


def reference_of(folder: Path, results: list[Result]) -> tuple[Reference, ReferenceStore]:
    store = ReferenceStore(folder, builtin=folder / "none")
    return store.write(results[0].case, results)[1], store


@pytest.mark.parametrize(
    ("backbone", "seeds", "given"),
    [
        ("resnet_micro_random", (1000,), False),
        ("resnet_micro_random", (1000, 1001), False),
        ("resnet_micro_glyphs", (1000,), True),
        (OWN, (1000,), False),  # one seed does not tell
        (OWN, (1000, 1001), True),
    ],
)
def test_weights_are_told_where_every_seed_has_them(
    tmp_path: Path, backbone: str, seeds: tuple[int, ...], given: bool
) -> None:
    results = results_of(backbone, seeds)
    reference, _ = reference_of(tmp_path, results)
    assert reference.weights == (results[0].weights_digest if given else "")
    assert reference.anchor.weights == reference.weights
    assert is_exact(results[0].case, reference) is given


def test_another_draw_of_a_random_backbone_does_not_break_a_reference_of_one_seed(
    tmp_path: Path,
) -> None:
    known, again = results_of("resnet_micro_random", (1000, 0))
    _, store = reference_of(tmp_path, [known])
    case, drop = again.case, 0.012
    assert drop > case.margin  # an exact band would be broken
    worse = {**again.metrics, "top1": known.metrics["top1"] - drop}
    verdict = Gate(store).judge(case, [replace(again, metrics=worse)])
    assert verdict.status is not Status.FAIL
    assert not any("weights are not those" in text for text in verdict.warnings)
