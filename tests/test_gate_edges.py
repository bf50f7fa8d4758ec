"""The gate at its edges: seeds that are all alike, ends of a unit, no room above chance."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from bob.case import Case, Result, Status, Verdict
from bob.protocols import Judged
from bob.protocols.chance import guessing_bound
from bob.references.bands import RESOLUTION, Spread, predict
from bob.references.files import ReferenceStore
from bob.references.gate import needs_second_stage
from bob.references.judge import Gate

Store = Callable[[], ReferenceStore]


@pytest.fixture
def new_store(tmp_path: Path) -> Store:
    made = iter(range(10_000))

    def make() -> ReferenceStore:
        return ReferenceStore(tmp_path / str(next(made)), builtin=tmp_path / "none")

    return make


def run(case: Case, seed: int, metrics: Mapping[str, float], weights: str = "w") -> Result:
    return Result(
        case=case.with_seed(seed),
        metrics=dict(metrics),
        test_size=597,
        classes=10,
        weights_digest=weights,
    )


@pytest.mark.parametrize("digits", [0.9530996, 0.9530991, 0.9530995, 1.0, 0.0])
def test_an_exact_case_without_a_margin_gives_its_value_again(
    new_store: Store, cases: dict[str, Case], digits: float
) -> None:
    """A reference keeps six digits and a run gives all of them."""
    case = replace(cases["knn vit_micro_glyphs"], margins={})
    store, again = new_store(), run(case, 0, {"top1": digits, "vote_share": digits})
    store.write(case, [again])
    assert Gate(store).judge(case, [again]).status is Status.PASS
    if digits:
        worse = run(case, 0, {"top1": digits - 1e-5, "vote_share": digits})
        assert Gate(store).judge(case, [worse]).status is Status.FAIL


@pytest.mark.parametrize(
    "metrics",
    [
        {"top1": 1.0, "test_loss": 4e-7, "train_loss": 0.0123456499},
        {"top1": 0.0, "test_loss": 0.0, "train_loss": 2.3},
        {"top1": 0.4321234567, "test_loss": 0.9999999, "train_loss": 1e-5},
    ],
)
def test_seeds_that_are_all_alike_give_their_values_again(
    new_store: Store, tiny_case: Case, metrics: dict[str, float]
) -> None:
    case, store = replace(tiny_case, margins={}), new_store()
    store.write(case, [run(case, 1000 + n, metrics) for n in range(8)])
    fresh = [run(case, n, metrics) for n in range(6)]
    for stage, runs in ((1, fresh[:1]), (2, fresh)):
        verdict = Gate(store).judge(case, runs, stage=stage)
        assert {part.status for part in verdict.deciding} == {Status.PASS}


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_room_for_rounding_ends_where_the_unit_does(value: float) -> None:
    band = predict(
        Judged("m", "bounded"), [value] * 8, Spread(0.0, 7), seeds=1, alpha=0.01, margin=0
    )
    assert 0.0 <= band.low <= value <= band.high <= 1.0
    assert band.high - band.low == pytest.approx(RESOLUTION)


def test_losses_far_apart_leave_a_band_without_an_upper_edge() -> None:
    loss = Judged("loss", "positive", higher_is_better=False)
    band = predict(loss, [0.5], Spread(2.0, 1), seeds=1, alpha=0.0005, margin=0.0)
    assert (band.low, band.high) == (pytest.approx(0.0), math.inf)


def test_one_seed_beside_a_restless_one_of_two_is_judged(
    new_store: Store, cases: dict[str, Case]
) -> None:
    case, other = cases["finetune vit_micro_glyphs"], cases["finetune swin_micro_glyphs"]
    store = new_store()
    known = {"top1": 0.9, "test_loss": 0.3, "train_loss": 0.5}
    store.write(case, [run(case, 1000, known)])
    apart = [{**known, "test_loss": loss} for loss in (0.002, 3.0)]
    store.write(other, [run(other, 1000 + n, metrics) for n, metrics in enumerate(apart)])
    assert Gate(store).judge(case, [run(case, 0, known)]).status is Status.PASS


def test_metrics_of_different_seeds_have_no_average_together(
    tmp_path: Path, tiny_case: Case
) -> None:
    store = ReferenceStore(tmp_path, builtin=tmp_path / "none")
    known = {"top1": 0.9, "test_loss": 0.3, "train_loss": 0.5}
    store.write(tiny_case, [run(tiny_case, 1000 + n, known) for n in range(4)])
    path = tmp_path / "tiny" / "pixels_coarse.json"
    content = json.loads(path.read_text())
    for values, name in zip(
        content["settings"]["finetune/digits"]["values"].values(),
        ("top1", "top1", "test_loss", "train_loss"),
        strict=True,
    ):
        del values[name]
    path.write_text(json.dumps(content))
    verdict = Gate(ReferenceStore(tmp_path, builtin=tmp_path / "none")).judge(
        tiny_case, [run(tiny_case, 0, known)]
    )
    assert verdict.together is None
    assert verdict.status is Status.PASS
    assert len(verdict.comparisons) == 3


@pytest.mark.parametrize(("metric", "value"), [("top1", 95.0), ("top1", -0.1), ("test_loss", -0.3)])
def test_a_value_that_its_unit_does_not_hold_is_no_score(
    new_store: Store, tiny_case: Case, metric: str, value: float
) -> None:
    """Percent on the angular scale are all 1: every score would lie in the band."""
    known = {"top1": 0.9, "test_loss": 0.3, "train_loss": 0.5, metric: value}
    verdict = Gate(new_store()).judge(tiny_case, [run(tiny_case, 0, known)])
    assert verdict.status is Status.FAIL
    assert f"{metric} is {value:g} for seed 0, which is no value of its unit" in verdict.reason


def test_rounding_at_the_ends_of_a_unit_is_none() -> None:
    assert Judged("top1", "proportion").holds(1 + 1e-9)
    assert Judged("loss", "positive", False).holds(-1e-9)
    assert Judged("any", "real").holds(-50.0)
    assert RESOLUTION == 1e-6


def gated(gate: Gate, case: Case, runs: list[Result]) -> Verdict:
    first = gate.judge(case, runs[:1])
    return gate.judge(case, runs, stage=2) if needs_second_stage(case, first) else first


def test_an_unchanged_case_barely_above_chance_keeps_its_false_alarms(
    new_store: Store, tiny_case: Case
) -> None:
    """A worse edge drawn up to chance, half a deviation below the reference, fails in a third."""
    bound = guessing_bound(10, 597)
    rng = np.random.default_rng(8)
    spread = np.linspace(-1, 1, 8) * 0.02
    store = new_store()
    known = {"test_loss": 2.2, "train_loss": 2.2}
    losses = [
        {name: value * math.exp(0.02 * rng.normal()) for name, value in known.items()}
        for _ in range(8)
    ]
    store.write(tiny_case, [
        run(tiny_case, 1000 + n, {"top1": bound + 0.005 + apart, **losses[n]}, str(n))
        for n, apart in enumerate(spread)
    ])  # fmt: skip
    gate, red, warned = Gate(store), 0, 0
    for _ in range(300):
        runs = [
            run(tiny_case, n, {"top1": bound + 0.005 + rng.normal(0, 0.013), **known})
            for n in range(6)
        ]
        verdict = gated(gate, tiny_case, runs)
        red += verdict.status is Status.FAIL
        assert verdict.score is not None
        if verdict.stage == 2 and verdict.score.value < bound:
            warned += 1
            assert "no better than chance" in verdict.warnings[0]
            assert verdict.guards_little
    assert red <= 6, "1 % are expected at most"
    assert warned > 20


def test_a_fall_to_chance_from_well_above_is_red_however_wide_the_margin(
    new_store: Store, tiny_case: Case
) -> None:
    case, store = replace(tiny_case, margins={"test_loss": 1.0, "train_loss": 1.0}), new_store()
    known = {"test_loss": 2.0, "train_loss": 2.0}
    scores = [0.29, 0.3, 0.31, 0.3, 0.295, 0.305, 0.3, 0.3]
    store.write(
        case, [run(case, 1000 + n, {"top1": top1, **known}) for n, top1 in enumerate(scores)]
    )
    verdict = gated(Gate(store), case, [run(case, n, {"top1": 0.1, **known}) for n in range(6)])
    assert verdict.status is Status.FAIL
    assert fmean(verdict.scores.values()) == pytest.approx(0.1)


def test_a_reference_no_better_than_its_twin_says_that_it_guards_little(
    new_store: Store, cases: dict[str, Case]
) -> None:
    trained, anew = cases["finetune vit_micro_glyphs"], cases["finetune vit_micro_random"]
    store = new_store()
    known = {"test_loss": 0.3, "train_loss": 0.5}
    for case, score in ((trained, 0.95), (anew, 0.96)):
        store.write(
            case,
            [run(case, 1000 + n, {"top1": score + n * 1e-4, **known}) for n in range(8)],
        )
    verdict = Gate(store).judge(trained, [run(trained, 0, {"top1": 0.95, **known})])
    assert verdict.status is Status.PASS
    assert verdict.guards_little
    assert "without pretraining (0.96" in verdict.warnings[0]


def test_first_values_without_today_s_score_say_nothing_of_drift(
    tmp_path: Path, tiny_case: Case
) -> None:
    """A protocol of a package may be given another score and measured anew under its old hash."""
    store = ReferenceStore(tmp_path, builtin=tmp_path / "none")
    known = {"top1": 0.9, "test_loss": 0.3, "train_loss": 0.5}
    store.write(tiny_case, [run(tiny_case, 1000 + n, known) for n in range(4)])
    path = tmp_path / "tiny" / "pixels_coarse.json"
    content = json.loads(path.read_text())
    for values in content["settings"]["finetune/digits"]["anchor"]["values"].values():
        del values["top1"]
    path.write_text(json.dumps(content))
    gate = Gate(ReferenceStore(tmp_path, builtin=tmp_path / "none"))
    verdict = gate.judge(tiny_case, [run(tiny_case, 0, known)])
    assert (verdict.status, verdict.warnings) == (Status.PASS, ())
