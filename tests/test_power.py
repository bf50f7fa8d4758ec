"""What a band can see, against draws through the gate's own functions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from bob.case import Case, Result, Status
from bob.cli import main
from bob.references.files import ReferenceStore
from bob.references.gate import needs_second_stage, stages
from bob.references.judge import Gate
from bob.references.power import POWER, _both, sight
from tests.conftest import MakeResult


@pytest.mark.parametrize("together", [0.2, 0.4, 0.9])
def test_both_is_the_bivariate_normal(together: float) -> None:
    from scipy.stats import multivariate_normal

    joint = multivariate_normal([0, 0], [[1, together], [together, 1]])
    for point in [(0.0, 0.0), (1.5, 0.5), (-1.0, 2.0), (9.0, 0.3)]:
        assert _both(*point, together) == pytest.approx(joint.cdf(point), abs=1e-4)


@pytest.mark.parametrize("seeds", [3, 8])
def test_the_drop_is_seen_as_often_as_it_says(
    tmp_path: Path, cases: dict[str, Case], seeds: int
) -> None:
    """Draws around a reference whose mean and deviation are the truth."""
    case = cases["low_shot vit_micro_random"]
    deviation, centre = 0.02, math.asin(math.sqrt(0.5))
    spread = np.linspace(-1, 1, seeds)
    spread *= deviation / spread.std(ddof=1)

    def result(seed: int, angle: float) -> Result:
        metrics = {"top1": math.sin(angle) ** 2}
        return Result(case=case.with_seed(seed), metrics=metrics, weights_digest=str(seed))

    store = ReferenceStore(tmp_path, builtin=tmp_path / "none")
    runs = [result(1000 + n, centre + apart) for n, apart in enumerate(spread)]
    _, reference = store.write(case, runs)
    seen = sight(case, reference, store)
    shift = centre - math.asin(math.sqrt(0.5 - seen.drop))
    rng, gate, red = np.random.default_rng(5), Gate(store), 0
    for _ in range(400):
        angles = centre - shift + rng.normal(0, deviation, 1 + stages(seeds).extra)
        drawn = [result(seed, angle) for seed, angle in enumerate(angles)]
        first = gate.judge(case, drawn[:1])
        if needs_second_stage(case, first):
            red += gate.judge(case, drawn, stage=2).status is Status.FAIL
    assert red / 400 == pytest.approx(POWER, abs=0.08)


def test_a_wide_band_says_that_it_guards_little(
    tmp_path: Path, tiny_case: Case, make_result: MakeResult
) -> None:
    store = ReferenceStore(tmp_path, builtin=tmp_path / "none")
    scores = [0.5, 0.7, 0.9, 0.6, 0.8]
    runs = [make_result(tiny_case.with_seed(1000 + n), top1) for n, top1 in enumerate(scores)]
    store.write(tiny_case, runs)
    verdict = Gate(store).judge(tiny_case, [make_result(tiny_case, 0.7)])
    assert verdict.guards_little
    assert verdict.detectable is not None
    assert verdict.detectable > 0.07
    calm = [make_result(tiny_case.with_seed(1000 + n), 0.9 + n / 1e4) for n in range(5)]
    store.write(tiny_case, calm)
    assert not Gate(store).judge(tiny_case, [make_result(tiny_case, 0.9)]).guards_little


def test_one_seed_without_others_of_its_kind_sees_nothing(
    tmp_path: Path, cases: dict[str, Case]
) -> None:
    case = cases["retrieval vit_micro_random"]
    metrics = {judged.name: 0.5 for judged in case.judged}
    store = ReferenceStore(tmp_path, builtin=tmp_path / "none")
    run = Result(case=case.with_seed(1000), metrics=metrics)
    _, reference = store.write(case, [run])
    assert sight(case, reference, store).drop == math.inf
    assert sight(case, reference, store).dull


def test_the_command_lists_every_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "references", "--power", "--scale", "smoke"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "case", "backbone", "score", "seeds", "detectable", "drop", "of", "the", "score",
    ]  # fmt: skip
    assert any("finetune/digits" in line and "swin_micro_glyphs" in line for line in lines)
    assert any(line.endswith("exact") for line in lines)
    assert any(line.endswith("guards little") for line in lines)
    assert main(["list", "backbones", "--power"]) != 0
