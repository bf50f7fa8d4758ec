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

pytestmark = pytest.mark.slow


@pytest.fixture
def smoke(project: pytest.Pytester) -> Callable[..., pytest.RunResult]:
    def run(backbone: str) -> pytest.RunResult:
        return project.runpytest("--scale", "smoke", "--backbone", backbone)

    return run


@pytest.mark.parametrize("backbone", ["resnet_micro_glyphs", "swin_micro_glyphs"])
def test_an_untouched_case_is_green(smoke: Callable[..., pytest.RunResult], backbone: str) -> None:
    smoke(backbone).assert_outcomes(passed=1)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("backbone", ["resnet_micro_glyphs", "swin_micro_glyphs"])
def test_a_fault_is_red_with_a_readable_reason(
    smoke: Callable[..., pytest.RunResult], backbone: str, fault: str
) -> None:
    broken: AbstractContextManager[None] = FAULTS[fault]()
    with broken:
        result = smoke(backbone)
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines(
        [
            rf"finetune/digits of {backbone} at scale smoke: \w+ [\d.]+ is (below|above) its band",
            r"  top1 .* band \[.*\] .* z ",
            r"  test_loss .* band \[.*\] .* z ",
            r"  reference   8 seeds \(1000\.\.1007\); .*, measured \d{4}-\d\d-\d\d",
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
