from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bob.case import Case, Result, Status
from bob.protocols.chance import guessing_bound
from bob.protocols.finetune import FinetuneRecipe
from bob.references.files import ReferenceStore
from bob.references.gate import extra_cases, needs_second_stage
from bob.references.judge import Gate
from tests.conftest import MakeResult


@pytest.fixture
def store(tmp_path: Path) -> ReferenceStore:
    return ReferenceStore(tmp_path / "references", builtin=tmp_path / "none")


@pytest.fixture
def gate(store: ReferenceStore) -> Gate:
    return Gate(store)


SCORES = (0.94, 0.95, 0.945, 0.955, 0.948, 0.942, 0.951, 0.949)


def write(
    store: ReferenceStore, case: Case, make: MakeResult, scores: tuple[float, ...] = SCORES
) -> None:
    runs = [make(case.with_seed(1000 + i), top1) for i, top1 in enumerate(scores)]
    store.write(case, runs)


def test_in_band_passes(
    gate: Gate, store: ReferenceStore, tiny_case: Case, make_result: MakeResult
) -> None:
    write(store, tiny_case, make_result)
    verdict = gate.judge(tiny_case, [make_result(tiny_case, 0.946)])
    assert verdict.status is Status.PASS
    assert verdict.score is not None
    assert verdict.score.low < 0.946 < verdict.score.high
    assert verdict.reference_seeds == tuple(range(1000, 1008))


def test_below_band_fails_at_both_stages(
    gate: Gate, store: ReferenceStore, tiny_case: Case, make_result: MakeResult
) -> None:
    write(store, tiny_case, make_result)
    runs = [make_result(tiny_case.with_seed(i), 0.90) for i in range(3)]
    assert gate.judge(tiny_case, runs[:1]).status is Status.FAIL
    verdict = gate.judge(tiny_case, runs, stage=2)
    assert verdict.status is Status.FAIL
    assert "top1 0.9000 is below its band" in verdict.reason


def test_between_the_bounds_is_inconclusive(
    gate: Gate, store: ReferenceStore, tiny_case: Case, make_result: MakeResult
) -> None:
    case = replace(tiny_case, margins={**tiny_case.margins, "top1": 0.0})
    write(store, case, make_result)
    seen = set()
    for top1 in np.linspace(0.95, 0.90, 400):
        runs = [make_result(case.with_seed(i), float(top1)) for i in range(3)]
        seen.add(gate.judge(case, runs, stage=2).status)
    assert seen == {Status.PASS, Status.INCONCLUSIVE, Status.FAIL}


def test_above_band_warns(
    gate: Gate, store: ReferenceStore, tiny_case: Case, make_result: MakeResult
) -> None:
    write(store, tiny_case, make_result)
    verdict = gate.judge(tiny_case, [make_result(tiny_case, 0.999)])
    assert verdict.status is Status.PASS
    assert "above its band" in verdict.warnings[0]


def test_a_worse_loss_fails_although_the_score_holds(
    gate: Gate, store: ReferenceStore, tiny_case: Case, make_result: MakeResult
) -> None:
    write(store, tiny_case, make_result)
    run = make_result(tiny_case, 0.946, test_loss=0.6)
    verdict = gate.judge(tiny_case, [run])
    assert verdict.status is Status.FAIL
    assert "test_loss 0.6000 is above its band" in verdict.reason


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_nan_or_missing_fails(
    gate: Gate,
    store: ReferenceStore,
    tiny_case: Case,
    make_result: MakeResult,
    value: float | None,
) -> None:
    write(store, tiny_case, make_result)
    metrics = {"top1": 0.95, "train_loss": 0.5}
    if value is not None:
        metrics["test_loss"] = value
    verdict = gate.judge(tiny_case, [Result(case=tiny_case, metrics=metrics)])
    assert verdict.status is Status.FAIL
    assert "test_loss is" in verdict.reason


def test_no_reference_must_beat_chance(
    gate: Gate, tiny_case: Case, make_result: MakeResult
) -> None:
    assert gate.judge(tiny_case, [make_result(tiny_case, 0.5)]).status is Status.NO_REFERENCE
    verdict = gate.judge(tiny_case, [make_result(tiny_case, 0.12)])
    assert verdict.status is Status.FAIL
    assert "does not beat chance" in verdict.reason


def test_seeds_are_not_more_images_to_beat_chance_on(
    gate: Gate, tiny_case: Case, make_result: MakeResult
) -> None:
    """Guesses that are alike in every seed are right as often together as alone."""
    size = tiny_case.dataset.test_size or 0
    bound = guessing_bound(tiny_case.dataset.classes or 0, size)
    for count in (1, 3, 8):
        lucky = [make_result(tiny_case.with_seed(seed), bound) for seed in range(count)]
        assert gate.judge(tiny_case, lucky).status is Status.FAIL
        better = [make_result(tiny_case.with_seed(seed), bound + 1 / size) for seed in range(count)]
        assert gate.judge(tiny_case, better).status is Status.NO_REFERENCE


def test_another_protocol_is_never_compared(
    gate: Gate, store: ReferenceStore, tiny_case: Case, make_result: MakeResult
) -> None:
    write(store, tiny_case, make_result)
    assert isinstance(tiny_case.recipe, FinetuneRecipe)
    changed = replace(tiny_case, recipe=tiny_case.recipe.model_copy(update={"lr": 0.005}))
    verdict = gate.judge(changed, [make_result(changed, 0.95)])
    assert verdict.stale
    assert verdict.status is Status.FAIL
    assert not verdict.comparisons
    assert "lr 0.05 -> 0.005" in verdict.reason


def test_a_reference_without_a_judged_metric_is_not_compared(
    gate: Gate, store: ReferenceStore, tiny_case: Case, make_result: MakeResult
) -> None:
    write(store, tiny_case, make_result)
    path = store.folder / "tiny" / "pixels_coarse.json"
    path.write_text(path.read_text().replace('"test_loss"', '"lost"'))
    verdict = Gate(ReferenceStore(store.folder)).judge(tiny_case, [make_result(tiny_case, 0.95)])
    assert verdict.stale
    assert "it lacks test_loss" in verdict.reason


def test_one_seed_alone_bounds_the_score_only(
    gate: Gate, store: ReferenceStore, tiny_case: Case, make_result: MakeResult
) -> None:
    """One run says nothing of the spread: the test set's size bounds the score."""
    write(store, tiny_case, make_result, (0.95,))
    assert gate.judge(tiny_case, [make_result(tiny_case, 0.94)]).status is Status.PASS
    run = make_result(tiny_case, 0.95, test_loss=3.0)
    assert gate.judge(tiny_case, [run]).status is Status.PASS
    assert gate.judge(tiny_case, [make_result(tiny_case, 0.85)]).status is Status.FAIL


def test_other_weights_are_noted(
    gate: Gate, store: ReferenceStore, tiny_case: Case, make_result: MakeResult
) -> None:
    write(store, tiny_case, make_result)
    verdict = gate.judge(tiny_case, [make_result(tiny_case, 0.946, weights="other")])
    assert verdict.status is Status.PASS
    assert any("weights are not those" in text for text in verdict.warnings)


def test_other_data_are_noted(
    gate: Gate, store: ReferenceStore, tiny_case: Case, make_result: MakeResult
) -> None:
    def on(data: str, seed: int) -> Result:
        return replace(make_result(tiny_case.with_seed(seed), 0.946), data_digest=data)

    store.write(tiny_case, [on("a" * 64, seed) for seed in (1000, 1001)])
    assert gate.judge(tiny_case, [on("a" * 64, 0)]).warnings == ()
    verdict = gate.judge(tiny_case, [on("b" * 64, 0)])
    assert verdict.status is Status.PASS
    assert verdict.warnings == (
        "the data are not those the reference was measured on (aaaaaaaaaaaa...)",
    )
    write(store, tiny_case, make_result)  # results that do not say what they were measured on
    assert gate.judge(tiny_case, [on("b" * 64, 0)]).warnings == ()


def test_creeping_drift_is_seen_against_the_anchor(
    gate: Gate, store: ReferenceStore, tiny_case: Case, make_result: MakeResult
) -> None:
    write(store, tiny_case, make_result)
    for step in range(1, 7):
        write(store, tiny_case, make_result, tuple(top1 - 0.008 * step for top1 in SCORES))
    verdict = gate.judge(tiny_case, [make_result(tiny_case, 0.947 - 0.048)])
    assert verdict.status is Status.PASS
    assert any("has drifted" in text for text in verdict.warnings)


@pytest.mark.parametrize(
    ("drop", "least", "most"), [(0.0, 0.0, 0.015), (3.0, 0.75, 1.0), (5.0, 0.98, 1.0)]
)
def test_error_rates_of_the_gate(
    tmp_path: Path,
    tiny_case: Case,
    make_result: MakeResult,
    drop: float,
    least: float,
    most: float,
) -> None:
    """Simulated: unchanged cases hardly ever fail, a drop of three deviations mostly does."""
    rng = np.random.default_rng(3)
    case = replace(tiny_case, margins={**tiny_case.margins, "top1": 0.0})
    deviation = 0.02
    trials, failures = 600, 0
    for trial in range(trials):
        store = ReferenceStore(tmp_path / str(trial), builtin=tmp_path / "none")

        def draw(seed: int, shift: float = 0.0) -> Result:
            angle = math.asin(math.sqrt(0.9)) + rng.normal(0, deviation) - shift * deviation
            loss = math.exp(rng.normal(math.log(0.3), 0.08))
            train = math.exp(rng.normal(math.log(0.5), 0.03))
            top1 = math.sin(angle) ** 2
            return make_result(case.with_seed(seed), top1, test_loss=loss, train_loss=train)

        store.write(case, [draw(1000 + seed) for seed in range(8)])
        gate = Gate(store)
        runs = [draw(0, drop)]
        verdict = gate.judge(case, runs)
        if needs_second_stage(case, verdict):
            seeds = len(verdict.reference_seeds)
            extra = extra_cases(
                case, [run.case for run in runs], reference_seeds=range(1000, 1000 + seeds)
            )
            runs += [draw(run.seed, drop) for run in extra]
            verdict = gate.judge(case, runs, stage=2)
        failures += verdict.status is Status.FAIL
    assert least <= failures / trials <= most
