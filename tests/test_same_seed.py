"""Stage 0: a seed of the reference, run again on the machine that measured it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bob.case import Case, Context, Outcomes, Result, Status
from bob.evaluation import Bands, Evaluation
from bob.evaluator import Evaluator
from bob.executors import Deliver
from bob.fingerprint import fingerprint, may_be_here, threads_wanted
from bob.references.files import ReferenceStore
from bob.references.gate import stages
from bob.references.repeat import repeat, repeatable
from bob.references.samples import MOST_IMAGES, moved, samples_of
from bob.tracking import NoTracker
from tests.conftest import MakeResult
from tests.store_parts import ledger_of
from tests.test_bench import Scripted

AUTO = ("--same-seed", "auto", "-k", "coarse")
REFERENCE = "references/tiny/pixels_coarse.json"


@pytest.fixture
def measured(project: pytest.Pytester) -> pytest.Pytester:
    """A project whose first case has a reference of four seeds, measured here."""
    project.runpytest("--bands", "new", "-k", "coarse").assert_outcomes(failed=1)
    return project


def edited(project: pytest.Pytester, change: Callable[[dict[str, Any]], None]) -> None:
    path = project.path / REFERENCE
    content = json.loads(path.read_text())
    change(content["settings"]["finetune/digits"])
    path.write_text(json.dumps(content))


@pytest.mark.slow
def test_an_unchanged_case_is_told_exactly_by_one_run(measured: pytest.Pytester) -> None:
    result = measured.runpytest(*AUTO, "-rA")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["pixels_coarse *finetune *1 *pass (unchanged)"])
    seeds = [
        entry.result.case.seed for entry in ledger_of(measured).entries() if entry.role == "check"
    ]
    assert seeds == [1000]


@pytest.mark.slow
def test_other_evaluation_is_told_apart_from_other_training(
    measured: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shift of the test images by a pixel leaves the training loss as it was."""
    import bob.datasets

    load = bob.datasets.load_dataset

    def shifted(entry: Any) -> Any:
        data: Any = load(entry)
        images = torch.roll(data.test.images, 1, dims=-1)
        return replace(data, test=replace(data.test, images=images))

    monkeypatch.setattr(bob.datasets, "load_dataset", shifted)
    result = measured.runpytest_inprocess(*AUTO)
    text = result.stdout.str()
    assert "differs from the reference's run of seed 1000 in the same environment" in text
    assert "train_loss is the same, so that it is the evaluation that changed" in text
    assert "are now wrong and" in text
    entries = [entry for entry in ledger_of(measured).entries() if entry.role == "check"]
    seeds = [entry.result.case.seed for entry in entries]
    assert seeds[:2] == [1000, 0], "the bands decide on fresh seeds"


@pytest.mark.slow
@pytest.mark.parametrize("words", [("--seeds", "2"), ("--base-seed", "3"), ("--same-seed", "off")])
def test_who_names_seeds_gets_them(measured: pytest.Pytester, words: tuple[str, str]) -> None:
    result = measured.runpytest("--same-seed", "auto", "-k", "coarse", *words)
    result.assert_outcomes(passed=1)
    assert "unchanged" not in result.stdout.str()


@pytest.mark.slow
def test_another_machine_s_reference_is_held_by_its_band_alone(measured: pytest.Pytester) -> None:
    edited(measured, lambda reference: reference["environment"].update(cpu="another"))
    result = measured.runpytest(*AUTO)
    result.assert_outcomes(passed=1)
    assert "unchanged" not in result.stdout.str()
    assert "differs" not in result.stdout.str()


def here(case: Case, make: MakeResult, top1: float = 0.9, **losses: float) -> Result:
    environment = {**fingerprint(), "threads": str(threads_wanted())}
    return replace(make(case, top1, **losses), environment=environment)


def test_equal_values_of_the_same_environment_are_unchanged(
    tmp_path: Path, tiny_case: Case, make_result: MakeResult
) -> None:
    store = ReferenceStore(tmp_path, builtin=tmp_path / "none")
    seeds = [here(tiny_case.with_seed(1000 + n), make_result) for n in range(3)]
    _, reference = store.write(tiny_case, seeds)
    assert repeatable(tiny_case, reference) == 1000
    assert repeatable(tiny_case, reference, devices=2) is None
    on_two = {**reference.environment, "devices": "2"}
    there = reference.model_copy(update={"environment": on_two})
    assert repeatable(tiny_case, there, devices=2) == 1000
    assert repeatable(tiny_case, there) is None
    again = here(tiny_case.with_seed(1000), make_result, 0.9 + 4e-7)
    assert repeat(tiny_case, again, reference).unchanged, "values are kept with six digits"
    other = repeat(tiny_case, replace(again, metrics={**again.metrics, "top1": 0.8}), reference)
    assert other.comparable
    assert not other.unchanged
    assert other.differences[0] == "top1 0.9 -> 0.8"
    threads = {**again.environment, "threads": "64"}
    elsewhere = repeat(tiny_case, replace(again, environment=threads), reference)
    assert not elsewhere.comparable
    assert not elsewhere.unchanged
    assert elsewhere.note == ""


@pytest.fixture
def store(tmp_path: Path) -> ReferenceStore:
    return ReferenceStore(tmp_path / "references", builtin=tmp_path / "none")


def test_equal_values_of_other_weights_or_data_are_not_unchanged(
    store: ReferenceStore, tiny_case: Case, make_result: MakeResult
) -> None:
    seeds = [
        replace(here(tiny_case.with_seed(1000 + n), make_result), data_digest="d") for n in range(3)
    ]
    _, reference = store.write(tiny_case, seeds)
    assert repeat(tiny_case, seeds[0], reference).unchanged
    weights = repeat(tiny_case, replace(seeds[0], weights_digest="others"), reference)
    assert not weights.unchanged
    assert "test_loss, train_loss are the same" in weights.note
    assert "the weights are others" in weights.note
    assert "None" not in weights.note
    data = repeat(tiny_case, replace(seeds[0], data_digest="others"), reference)
    assert not data.unchanged
    assert "the data are others" in data.note
    assert "evaluation that changed" not in data.note


def test_as_many_images_lost_as_won_are_a_change(
    store: ReferenceStore, tiny_case: Case, make_result: MakeResult
) -> None:
    """Top-1 is the same to the last digit, and may be all that is judged."""

    def seen(predictions: list[int], probability: float = 0.9) -> Result:
        found = outcomes(np.array(predictions), probability)
        return replace(here(tiny_case.with_seed(1000), make_result, 0.5), outcomes=found)

    _, reference = store.write(tiny_case, [seen([0, 1, 0, 1])])
    assert repeat(tiny_case, seen([0, 1, 0, 1]), reference).unchanged
    assert repeat(tiny_case, seen([0, 1, 0, 1], 0.9000001), reference).unchanged
    other = repeat(tiny_case, seen([1, 0, 0, 1]), reference)
    assert not other.unchanged
    assert "of its 4 images 1 are now wrong and 1 now right" in other.note


def test_a_seed_that_lacks_a_metric_is_not_the_one_to_repeat(
    store: ReferenceStore, tiny_case: Case, make_result: MakeResult
) -> None:
    seeds = [here(tiny_case.with_seed(1000 + n), make_result) for n in range(3)]
    _, reference = store.write(tiny_case, seeds)
    values = {seed: dict(known) for seed, known in reference.values.items()}
    del values[1000]["train_loss"]
    partly = reference.model_copy(update={"values": values})
    assert repeatable(tiny_case, partly) == 1001
    bare = {seed: {"top1": known["top1"]} for seed, known in values.items()}
    assert repeatable(tiny_case, reference.model_copy(update={"values": bare})) is None


def test_digits_beyond_those_of_a_file_are_rounded_as_a_run_s_are(
    store: ReferenceStore, tiny_case: Case, make_result: MakeResult
) -> None:
    seeds = [here(tiny_case.with_seed(1000 + n), make_result, 0.94639866) for n in range(3)]
    _, reference = store.write(tiny_case, seeds)
    by_hand = {1000: {**reference.values[1000], "top1": 0.94639866}}
    assert repeat(tiny_case, seeds[0], reference.model_copy(update={"values": by_hand})).unchanged


def test_on_a_gpu_a_difference_may_be_the_order_of_a_sum(
    store: ReferenceStore, tiny_case: Case, make_result: MakeResult
) -> None:
    environment = {**fingerprint(), "device": "cuda", "gpu": "any"}
    run = replace(make_result(tiny_case.with_seed(1000), 0.9), environment=environment)
    _, reference = store.write(tiny_case, [run])
    other = replace(run, metrics={**run.metrics, "top1": 0.8})
    assert (
        "or a GPU's kernels added up in another order" in repeat(tiny_case, other, reference).note
    )


def test_an_unchanged_case_still_says_that_its_reference_has_drifted(
    store: ReferenceStore, tiny_case: Case, make_result: MakeResult
) -> None:
    from bob.references.judge import Gate

    for top1 in (0.95, 0.80):
        seeds = [
            here(tiny_case.with_seed(1000 + n), make_result, top1 + n / 1000) for n in range(8)
        ]
        store.write(tiny_case, seeds)
    verdict = Gate(store).unchanged(tiny_case, seeds[0])
    assert verdict.status is Status.PASS
    assert any("top1 has drifted: 0.8035" in warning for warning in verdict.warnings)


def test_a_reference_that_is_written_anew_meanwhile_does_not_end_the_session(
    store: ReferenceStore, tiny_case: Case, make_result: MakeResult
) -> None:
    """Another session may measure it on other seeds while its lowest seed runs."""
    seeds = [here(tiny_case.with_seed(1000 + n), make_result) for n in range(3)]
    store.write(tiny_case, seeds)

    class Meanwhile(Scripted):
        def advance(self, deliver: Deliver, *, waiting_for: str) -> None:
            if waiting_for and not self.ran:
                store.write(
                    tiny_case, [here(tiny_case.with_seed(2000 + n), make_result) for n in range(3)]
                )
            super().advance(deliver, waiting_for=waiting_for)

    executor = Meanwhile(lambda case, top1: here(case, make_result, top1), lambda seed: 0.9)
    made = Evaluator(
        executor=executor, context=Context(), store=store, tracker=NoTracker(), same_seed=True
    )
    assert made.evaluate(tiny_case).verdict.unchanged
    assert executor.ran == [1000]


def test_the_repeated_seed_is_no_fresh_evidence_and_no_part_of_a_new_reference(
    store: ReferenceStore, tiny_case: Case, make_result: MakeResult
) -> None:
    known = [here(tiny_case.with_seed(1000 + n), make_result, 0.95) for n in range(4)]
    store.write(tiny_case, known)

    def evaluated(top1: float) -> tuple[Evaluation, list[int]]:
        executor = Scripted(lambda case, score: here(case, make_result, score), lambda seed: top1)
        made = Evaluator(
            executor=executor,
            context=Context(),
            store=store,
            tracker=NoTracker(),
            same_seed=True,
            bands=Bands.FAILED,
        )
        return made.evaluate(tiny_case), executor.ran

    same, ran = evaluated(0.95)
    assert same.verdict.unchanged
    assert (ran, same.update) == ([1000], None)
    worse, ran = evaluated(0.6)
    fresh = [0, *range(1, 1 + stages(4).extra)]
    assert ran == [1000, *fresh, *range(1000, 1000 + tiny_case.reference_seeds)]
    assert sorted(worse.verdict.scores) == fresh
    assert worse.verdict.warnings[0].startswith("differs from the reference's run of seed 1000")
    assert worse.update is not None
    roles = dict(zip(ran, worse.roles, strict=True))
    assert worse.roles.count("reference") == tiny_case.reference_seeds
    assert roles[0] == "check"
    assert worse.update.new.metric("top1") == [0.6] * tiny_case.reference_seeds


@pytest.mark.parametrize("fact", ["cpu", "torch", "python", "threads"])
def test_a_machine_is_known_by_every_fact(fact: str) -> None:
    environment = {**fingerprint(), "threads": str(threads_wanted())}
    assert may_be_here(environment)
    assert not may_be_here({**environment, fact: "other"})
    assert not may_be_here({}), "references of earlier versions name no CPU"


def test_a_run_leaves_the_fingerprint_of_the_machine_as_it_was() -> None:
    """What a run adds of its device is no fact of the machine for the next one."""
    from bob.training.environment import describe

    before = fingerprint()
    described = describe(torch.device("cpu"), "32-true")
    assert described.keys() > before.keys()
    assert fingerprint() == before
    assert "precision" not in fingerprint()


def outcomes(predictions: np.ndarray[Any, Any], probability: float = 0.9) -> Outcomes:
    count = len(predictions)
    return Outcomes(
        targets=np.zeros(count, np.int64),
        target_log_probabilities=np.zeros(count, np.float32),
        top_classes=predictions[:, None].astype(np.int32),
        top_probabilities=np.full((count, 1), probability, np.float32),
        square_sums=np.ones(count, np.float32),
        class_names=("a", "b"),
    )


@pytest.mark.parametrize("count", [1, 7, 8, 597, MOST_IMAGES])
def test_who_was_right_survives_the_file(count: int, tiny_case: Case) -> None:
    rng = np.random.default_rng(count)
    predictions = rng.integers(0, 2, count)
    kept = samples_of(Result(case=tiny_case, metrics={}, outcomes=outcomes(predictions)))
    assert kept is not None
    found = type(kept).model_validate_json(kept.model_dump_json()).correct()
    assert found is not None
    assert (found == (predictions == 0)).all()


def test_what_moved_is_said(tiny_case: Case) -> None:
    def result(predictions: list[int], probability: float = 0.9) -> Result:
        found = outcomes(np.array(predictions), probability)
        return Result(case=tiny_case, metrics={}, outcomes=found)

    before = samples_of(result([0, 0, 1, 1]))
    assert before is not None
    assert moved(before, result([0, 0, 1, 1])) == "every image has the same outcome"
    same = moved(before, result([0, 0, 1, 1], 0.8))
    assert same == "the same of its 4 images are right, with other probabilities"
    assert moved(before, result([1, 0, 0, 1])) == "of its 4 images 1 are now wrong and 1 now right"
    assert moved(before, result([0, 0])) == "it was read on other images"
    many = samples_of(result([0] * (MOST_IMAGES + 1)))
    assert many is not None
    assert many.right == ""
    assert "images differ" in moved(many, result([1] * (MOST_IMAGES + 1)))


def test_the_verdict_of_an_unchanged_seed_passes_even_below_the_band_of_a_check(
    tmp_path: Path, tiny_case: Case, make_result: MakeResult
) -> None:
    from bob.references.judge import Gate

    store = ReferenceStore(tmp_path, builtin=tmp_path / "none")
    scores = [0.80, 0.95, 0.95, 0.951, 0.949, 0.95, 0.95, 0.951]
    seeds = [
        here(tiny_case.with_seed(1000 + n), make_result, top1) for n, top1 in enumerate(scores)
    ]
    store.write(tiny_case, seeds)
    verdict = Gate(store).unchanged(tiny_case, seeds[0])
    assert verdict.status is Status.PASS
    assert verdict.unchanged
    assert verdict.scores == {1000: 0.80}
    assert {comparison.status for comparison in verdict.comparisons} == {Status.PASS}
