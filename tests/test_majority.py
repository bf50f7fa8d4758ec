"""A test set that is mostly of one class: always naming that class is no information."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bob.case import Case, Outcomes, Result, Status
from bob.references.files import ReferenceStore
from bob.references.judge import Gate
from bob.run import score_remarks
from tests.conftest import MakeResult


def constant(case: Case, make: MakeResult, *, most: int, images: int, also: int = 0) -> Result:
    """Always the first class, and ``also`` of the others right."""
    targets = np.ones(images, dtype=np.int64)
    targets[:most] = 0
    classes = np.zeros((images, 1), dtype=np.int32)
    classes[most : most + also] = 1
    outcomes = Outcomes(
        targets=targets,
        target_log_probabilities=np.zeros(images, dtype=np.float32),
        top_classes=classes,
        top_probabilities=np.full((images, 1), 0.9, dtype=np.float32),
        square_sums=np.zeros(images, dtype=np.float32),
        class_names=("usual", "rare"),
    )
    top1 = float(np.float32((most + also) / images))
    made = make(case, top1)
    return replace(made, outcomes=outcomes, classes=2, test_size=images)


@pytest.fixture
def own_case(tiny_case: Case) -> Case:
    entry = tiny_case.dataset.model_copy(update={"classes": None, "test_size": None})
    return replace(tiny_case, dataset=entry)


@pytest.mark.parametrize("most", range(55, 100, 3))
def test_no_more_than_the_usual_class_is_told_and_beats_no_chance(
    own_case: Case, make_result: MakeResult, tmp_path: Path, most: int
) -> None:
    gate = Gate(ReferenceStore(tmp_path, builtin=tmp_path / "none"))
    result = constant(own_case, make_result, most=most, images=100)
    (remark,) = score_remarks(own_case, result.metrics, result.outcomes, 100)
    assert "no more than always naming the class of most test images" in remark
    verdict = gate.judge(own_case, [result])
    assert verdict.status is Status.FAIL
    assert "does not beat chance" in verdict.reason


def test_more_than_the_usual_class_beats_chance(
    own_case: Case, make_result: MakeResult, tmp_path: Path
) -> None:
    gate = Gate(ReferenceStore(tmp_path, builtin=tmp_path / "none"))
    result = constant(own_case, make_result, most=80, images=100, also=1)
    assert score_remarks(own_case, result.metrics, result.outcomes, 100) == ()
    assert gate.judge(own_case, [result]).status is Status.NO_REFERENCE
