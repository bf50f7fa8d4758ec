"""Faults in the training code turn their case red, through pytest and the shipped references."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.sabotage import FAULTS
from bob.backbones.micro import resnet_micro
from bob.catalog import Catalog
from tests.conftest import suite_of

pytestmark = pytest.mark.slow


RunSmoke = Callable[[str, str], pytest.RunResult]


@pytest.fixture
def smoke(project: pytest.Pytester) -> RunSmoke:
    def run(task: str, backbone: str) -> pytest.RunResult:
        project.makepyfile(test_suite=suite_of(task))
        return project.runpytest("--scale", "smoke", "--backbone", backbone)

    return run


@pytest.mark.parametrize(
    ("task", "backbone"), [("finetune", "swin_micro_glyphs"), ("knn", "resnet_micro_glyphs")]
)
def test_an_untouched_case_is_green(smoke: RunSmoke, task: str, backbone: str) -> None:
    smoke(task, backbone).assert_outcomes(passed=1)


def test_a_fault_of_training_is_red_with_a_readable_reason(smoke: RunSmoke) -> None:
    """Five further seeds run; the whole matrix is ``python -m benchmarks.sabotage``."""
    broken: AbstractContextManager[None] = FAULTS["20 % wrong labels"]()
    with broken:
        result = smoke("finetune", "resnet_micro_glyphs")
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines(
        [
            r"finetune/digits of resnet_micro_glyphs at scale smoke: "
            r"\w+ [\d.]+ is (below|above) its",
            r"  top1 .* band \[.*\] .* z ",
            r"  test_loss .* band \[.*\] .* z ",
            r"  together .* deviations worse on average, .* z .* fail",
            r"  reference   8 seeds \(1000\.\.1007\); .*, measured \d{4}-.*; sees a drop of 0.\d+",
            r"  top1 by seed  0: .*, 5: .*, the later ones extra because the first fell outside",
        ]
    )


@pytest.mark.parametrize("fault", ["random weights", "evaluation images transposed"])
def test_a_fault_of_loading_is_red_where_nothing_is_random(smoke: RunSmoke, fault: str) -> None:
    broken: AbstractContextManager[None] = FAULTS[fault]()
    with broken:
        result = smoke("knn", "resnet_micro_glyphs")
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines(
        [
            r"knn/digits of resnet_micro_glyphs at scale smoke: top1 [\d.]+ is below its band",
            r"  top1 .* band \[.*\] .* nothing is random  fail",
        ]
    )


def test_a_swapped_weight_file_is_told_by_its_digest(
    project: pytest.Pytester, catalog: Catalog
) -> None:
    torch.manual_seed(0)
    save_file(resnet_micro().state_dict(), project.path / "swapped.safetensors")
    weights = catalog.backbone("resnet_micro_glyphs").weights
    assert weights is not None
    project.makefile(
        ".yaml",
        swapped=f"""
        backbones:
          swapped:
            family: resnet
            source: bob.backbones.micro:resnet_micro
            weights: {{file: swapped.safetensors, sha256: {weights.sha256}}}
            scales: [smoke]
        """,
    )
    result = project.runpytest(
        "--scale", "smoke", "--catalog", "swapped.yaml", "--backbone", "swapped"
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*swapped.safetensors has SHA-256 *the catalog says*"])
