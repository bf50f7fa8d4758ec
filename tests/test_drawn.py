"""Box AP under drawn images: what ``bob compare`` makes of it, and where it falls back to seeds."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from benchmarks import detection_power
from benchmarks.detection_power import World, cell_of, compared, detectors, precision, scores_of
from bob.case import Case, DetectionOutcomes, ImageList
from bob.case.detections import joined
from bob.cli import main
from bob.ledger import Ledger, Score
from bob.ledger.score import RunId
from bob.report.board import make_board
from bob.report.bootstrap import rank_intervals
from bob.report.cells import Cell, cell
from bob.report.comparison import Answer, Contrast, Pair, compare
from bob.report.drawn import Drawing, draws_of, weights_of
from bob.report.facts import Facts

MANY = World(images=160, seeds=3, deviation=0.05)
FIXED = World(images=160)


def only(before: Cell, after: Cell, *, delta: float = 0.0, subject: str = "") -> Contrast:
    pair = Pair(subject=subject, setting="", before=before, after=after, delta=delta)
    return compare([pair]).contrasts[0]


def both(world: World, gap: float = 0.0, *, seed: int = 0) -> tuple[Cell, Cell]:
    found = detectors(world, gap, np.random.default_rng(seed))
    return cell_of("a", found["a"]), cell_of("b", found["b"])


def test_draws_are_those_of_the_images_and_of_nothing_else() -> None:
    images = ImageList(count=300, digest="d")
    first, again = (np.stack([*weights_of(images)]) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (draws_of(images), 300)
    assert (first.sum(axis=1) == 300).all()
    assert first.var(axis=0).mean() == pytest.approx(1, abs=0.05)
    other = np.stack([*weights_of(replace(images, digest="e"))])
    assert not np.array_equal(first, other)
    assert draws_of(ImageList(count=5000, digest="d")) == 400
    assert draws_of(ImageList(count=10**6, digest="d")) == 200


def test_the_spread_over_draws_is_that_over_other_test_images() -> None:
    rng = np.random.default_rng(0)
    ahead = [
        precision(found["a"][0]) - precision(found["b"][0])
        for found in (detectors(FIXED, 0.0, rng) for _ in range(600))
    ]
    spreads = []
    for seed in range(12):
        first, second = both(FIXED, seed=seed)
        assert first.drawn is not None
        assert second.drawn is not None
        (name,) = first.drawn.moved
        spreads.append(float(np.std(first.drawn.moved[name] - second.drawn.moved[name])))
    assert np.mean(spreads) == pytest.approx(np.std(ahead), rel=0.15)


@pytest.mark.slow
def test_equal_detectors_are_seldom_called_different_and_a_drop_is_found() -> None:
    rng = np.random.default_rng(1)
    pairs = [compared(FIXED, 0.0, 0.0, rng) for _ in range(150)]
    called = sum(pair.answer is not Answer.UNDECIDED for pair in pairs) / len(pairs)
    assert called <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / len(pairs))
    assert called > 0  # nothing that is always undecided is a test
    spread, gap = detection_power.deviation(FIXED, rng)
    worse = [compared(FIXED, 5 * gap, 0.0, rng).answer is Answer.WORSE for _ in range(20)]
    assert np.mean(worse) > 0.8
    small = [compared(FIXED, 0.0, 8 * spread, rng).answer for _ in range(10)]
    assert small.count(Answer.EQUIVALENT) >= 9


def test_images_and_seeds_are_joined() -> None:
    first, second = both(MANY)
    told = only(first, second)
    assert told.p is not None
    assert told.high is not None
    seeds_alone = only(replace(first, drawn=None), replace(second, drawn=None))
    images_alone = only(replace(first, seeded=False), replace(second, seeded=False))
    assert seeds_alone.high is not None
    assert images_alone.high is not None
    assert told.high - told.effect > images_alone.high - images_alone.effect
    single = only(*both(replace(MANY, seeds=1)))
    assert single.p is not None  # nothing is random there
    trained = [replace(entry, seeded=True) for entry in both(replace(MANY, seeds=1))]
    assert only(*trained).answer is Answer.UNDECIDED
    assert "trained on one seed" in only(*trained).why
    assert "no error is known" in only(*(replace(c, drawn=None) for c in both(FIXED))).why


def test_matches_that_are_not_the_scores_are_not_used() -> None:
    found = detectors(FIXED, 0.0, np.random.default_rng(0))["a"][0]
    row = Score(
        backbone="a", task="detection", dataset="x", scale="full", seed=0, metric="box_ap",
        value=precision(found), protocol="p", run_key="k",
    )  # fmt: skip
    drawing = Drawing({row.run: found})
    assert cell([row], None, drawing).drawn is not None
    for other in (
        replace(row, value=row.value + 1e-4), replace(row, metric="mask_ap"),
        replace(row, metric="train_loss"), replace(row, run_key="other"),
        replace(row, value=float("nan")),
    ):  # fmt: skip
        assert cell([other], None, drawing).drawn is None
    elsewhere = replace(found, lists=(replace(found.lists[0], digest="other"),))
    second = replace(row, seed=1, run_key="l")
    seeds = Drawing({row.run: found, second.run: elsewhere})
    assert cell([row, second], None, seeds).drawn is None
    assert cell([row, second], None, drawing).drawn is None


def test_other_images_are_not_paired() -> None:
    first, second = both(MANY)[0], both(MANY, seed=1)[1]
    apart = only(first, second)
    bare = only(replace(first, drawn=None), replace(second, drawn=None))
    assert (apart.p, apart.high) == (bare.p, bare.high)


def test_the_same_score_on_other_images_is_not_identical() -> None:
    first, second = both(FIXED)
    assert only(first, first).answer is Answer.IDENTICAL
    level = replace(second, value=first.value, by_seed=first.by_seed)
    assert only(first, level).answer is Answer.UNDECIDED
    # what is the same on a few images is not surely the same
    few = World(images=20)
    alike, _ = both(few)
    other = replace(alike, value=alike.value + 1e-5)
    assert only(alike, other, delta=0.01).answer is Answer.UNDECIDED


def test_settings_on_the_same_images_share_their_luck() -> None:
    first, second = both(FIXED)
    twice = compare([
        Pair(subject="", setting=name, before=first, after=second, delta=0.0) for name in "xy"
    ])  # fmt: skip
    assert twice.overall is not None
    assert twice.overall.high is not None
    alone = only(first, second)
    assert alone.high is not None
    half = alone.high - alone.effect
    assert twice.overall.high - twice.overall.effect == pytest.approx(half, rel=1e-6)
    third, fourth = both(FIXED, seed=3)
    apart = compare([
        Pair(subject="", setting="x", before=first, after=second, delta=0.0),
        Pair(subject="", setting="y", before=third, after=fourth, delta=0.0),
    ])  # fmt: skip
    assert apart.overall is not None
    assert apart.overall.high is not None
    assert apart.overall.high - apart.overall.effect < 0.85 * half


def test_a_score_over_several_lists() -> None:
    rng = np.random.default_rng(0)
    parts = [detectors(World(images=n), 0.0, rng) for n in (60, 160)]
    cells = []
    for key in "ab":
        whole = joined([part[key][0] for part in parts])
        value = float(np.mean([precision(part[key][0]) for part in parts]))
        row = Score(
            backbone=key, task="ood_detection", dataset="x", scale="full", seed=0, protocol="p",
            metric="shifted_box_ap", value=value, run_key="k", seeded=False,
        )  # fmt: skip
        cells.append(cell([row], None, Drawing({row.run: whole})))
    assert cells[0].drawn is not None
    assert len(cells[0].drawn.moved) == 2
    told = only(*cells)
    variances = []
    for part in parts:
        alone = only(cell_of("a", part["a"]), cell_of("b", part["b"]))
        assert alone.high is not None
        variances.append((alone.high - alone.effect) ** 2)
    assert told.high is not None
    assert told.high - told.effect == pytest.approx(np.sqrt(sum(variances)) / 2, rel=1e-6)


def test_ranks_move_with_drawn_images() -> None:
    first, second = both(FIXED)
    assert first.value != second.value
    row = {"a": first, "b": second}
    ranks = rank_intervals({"detection/x box_ap": row}, ["a", "b"]).overall
    assert ranks == {"a": (1, 2), "b": (1, 2)}
    still = {key: replace(entry, drawn=None) for key, entry in row.items()}
    ranks = rank_intervals({"detection/x box_ap": still}, ["a", "b"]).overall
    assert sorted(ranks.values()) == [(1, 1), (2, 2)]


def test_a_board_draws_no_more_detections_than_it_has_time_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows: list[Score] = []
    outcomes: dict[RunId, DetectionOutcomes] = {}
    for key, seeds in detectors(FIXED, 0.0, np.random.default_rng(0)).items():
        found, own = scores_of(key, seeds)
        rows += found
        outcomes |= own
    drawing = Drawing(outcomes)
    facts = {key: Facts(backbone=key) for key in "ab"}

    def ranks() -> set[tuple[int, int]]:
        board = make_board(rows, scale="full", units={}, facts=facts, drawing=drawing)
        return {interval for row in board.setting_ranks.values() for interval in row.values()}

    assert ranks() == {(1, 2)}
    monkeypatch.setattr("bob.report.board.MOST_DETECTIONS", drawing.detections - 1)
    assert ranks() == {(1, 1), (2, 2)}


def large(rng: np.random.Generator) -> DetectionOutcomes:
    """As many images, objects and detections as COCO's validation split has, and its 80 classes."""
    images, classes, objects, count = 5000, 80, 36_000, 500_000
    places = rng.integers(0, images, objects) * classes + rng.integers(0, classes, objects)
    keys, counts = np.unique(places, return_counts=True)
    own = np.repeat(keys, counts)
    false = rng.integers(0, images * classes, count - objects)
    where = np.concatenate([own, false])
    bits = 2 ** rng.integers(0, 11, objects) - 1
    signal = np.concatenate([rng.beta(4, 2, objects), rng.beta(1, 6, len(false))])
    order = np.lexsort((-signal, where))
    matched = np.concatenate([bits, np.zeros(len(false), np.int64)])[order]
    return DetectionOutcomes(
        lists=(ImageList(count=images, digest="large"),),
        images=(where[order] // classes).astype(np.int32),
        labels=(where[order] % classes).astype(np.int32),
        scores=signal[order].astype(np.float32),
        box_matched=matched.astype(np.uint16),
        box_ignored=np.zeros(count, np.uint16),
        truth_images=(keys // classes).astype(np.int32),
        truth_labels=(keys % classes).astype(np.int32),
        truth_counts=counts.astype(np.int32),
    )


@pytest.mark.slow
def test_a_run_of_the_size_of_coco_takes_seconds() -> None:
    found = large(np.random.default_rng(0))
    start = time.process_time()
    drawn = cell_of("a", [found]).drawn
    assert drawn is not None
    assert len(drawn.moved["large 5000"]) == 400
    assert time.process_time() - start < 20


def catalog_of(cases: dict[str, Case]) -> dict[str, Any]:
    """A scale of one detection protocol on a few scenes."""
    recipe = cases["detection_frozen resnet_micro_glyphs"].recipe.model_dump(mode="json")
    return {
        "datasets": {
            "few_scenes": {
                "kind": "detection", "loader": "bob.datasets.scenes:load", "sha256": None,
                "classes": 10, "options": {"train": 40, "test": 40},
            }
        },
        "scales": {
            "scenes": {
                "description": "a detector in seconds",
                "tasks": {
                    "detection_frozen": {
                        "datasets": ["few_scenes"], "margin": 0.01, "reference_seeds": 4,
                        "recipe": {**recipe, "epochs": 4},
                    }
                },
            }
        },
    }  # fmt: skip


@pytest.mark.slow
def test_a_suite_leaves_matches_and_compare_uses_them(
    cases: dict[str, Case],
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Path("scenes.yaml").write_text(yaml.safe_dump(catalog_of(cases)))
    pytester.makeini("[pytest]\nbob_catalog = scenes.yaml\nbob_scale = scenes\n")
    pytester.makepyfile(
        test_suite="import pytest\n\n@pytest.mark.detection_frozen\n"
        "def test_detection_frozen(case, battle):\n    battle(case)\n"
    )
    names = ("resnet_micro_glyphs", "convnext_micro_glyphs")
    ran = pytester.runpytest_subprocess(
        *(word for name in names for word in ("--backbone", name)),
        "--seeds", "2", "--accelerator", "cpu", "--progress=off", "-p", "no:cacheprovider",
    )  # fmt: skip
    ledger = Ledger(Path("mlruns") / "ledger")
    entries = list(ledger.entries())
    assert len(entries) == 4, ran.stdout.str()
    for entry in entries:
        outcomes = entry.result.detections
        assert outcomes is not None
        for kind in ("box", "mask"):
            assert outcomes.bits(kind) is not None
        assert precision(outcomes) == pytest.approx(entry.result.metrics["box_ap"], abs=1e-9)
        assert 0 < precision(outcomes) < 1
    words = ["compare", *names, "--catalog", "scenes.yaml", "--scale", "scenes", "--json"]

    def contrast() -> dict[str, Any]:
        capsys.readouterr()
        assert main(words) in (0, 1)
        found: dict[str, Any] = json.loads(capsys.readouterr().out)["settings"][0]
        return found

    words += ["--metric", "mask_ap"]
    by_mask = contrast()
    assert by_mask["setting"] == "detection_frozen/few_scenes/torchvision mask_ap"
    masks = [
        entry.result.metrics["mask_ap"]
        for entry in entries
        if entry.result.case.backbone.key == names[1]
    ]
    assert by_mask["after"] == pytest.approx(np.mean(masks))
    assert by_mask["p"] is not None
    words = words[:-2]
    told = contrast()
    assert told["setting"] == "detection_frozen/few_scenes/torchvision box_ap"
    assert told["p"] is not None
    assert main(["report", *words[3:-1], "-o", "-"]) == 0
    assert main(["outcomes", str(ledger.root / entries[0].session / entries[0].entry)]) == 0
    assert "image,class,score,box_matched,box_ignored,mask_matched" in capsys.readouterr().out
    assert main(["export", *words[3:-1], "-o", "out"]) == 0
    words += ["--from", "out"]
    bare = contrast()
    assert (bare["before"], bare["after"]) == (told["before"], told["after"])
    assert 0 < bare["high"] - bare["effect"] != told["high"] - told["effect"] > 0
    words[-1] = "ledger"
    for entry in entries:
        ledger.write(replace(entry, result=replace(entry.result, detections=None)))
    assert contrast() == bare  # as of a ledger of before matches were kept
    shutil.rmtree("out")
