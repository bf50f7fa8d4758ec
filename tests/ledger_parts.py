"""Results of every kind, and a ledger of the test's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bob.case import (
    Case,
    Contributions,
    DetectionOutcomes,
    ImageList,
    Outcomes,
    QueryOutcomes,
    Result,
    Trial,
)
from bob.ledger import Ledger, Recorded
from bob.ledger.records import entry_name, now


def result_of(case: Case, **changes: object) -> Result:
    """A result with something in every field."""
    result = Result(
        case=case,
        run_key="k" * 16,
        metrics={"top1": 0.75, "test_loss": float("nan"), "train_loss": float("inf")},
        history=({"top1": 0.5}, {"top1": 0.75}),
        outcomes=Outcomes(
            targets=np.array([0, 1]),
            target_log_probabilities=np.array([-0.1, -np.inf], np.float32),
            top_classes=np.array([[0, 1], [0, 1]], np.int32),
            top_probabilities=np.array([[0.9, 0.1], [1.0, 0.0]], np.float32),
            square_sums=np.array([0.82, 1.0], np.float32),
            class_names=("nought", "one"),
        ),
        queries=QueryOutcomes(
            average_precisions=np.array([0.5, np.nan]), first_ranks=np.array([2, 0])
        ),
        contributions=Contributions(
            values=np.array([0.75, 0.0, 1.5]),
            lists=(
                ImageList(count=2, digest="a", share=0.25, step=4),
                ImageList(count=1, digest="b", share=0.75),
            ),
        ),
        detections=DetectionOutcomes(
            lists=(ImageList(count=3, digest="c"),),
            images=np.array([0, 2], np.int32),
            labels=np.array([1, 0], np.int32),
            scores=np.array([0.5, 0.25], np.float32),
            box_matched=np.array([7, 0], np.uint16),
            box_ignored=np.array([0, 1023], np.uint16),
            mask_matched=np.array([1, 0], np.uint16),
            mask_ignored=np.array([0, 0], np.uint16),
            truth_images=np.array([0], np.int32),
            truth_labels=np.array([1], np.int32),
            truth_counts=np.array([2], np.int32),
        ),
        timings={"total": 3600.0},
        peak_memory_mb=12.5,
        environment={"device": "cpu: x", "torch": "2"},
        weights_digest="w",
        data_digest="d",
        files={"low_shot.csv": b"a,b\r\n", "picture.png": bytes(range(256))},
        remarks=("a remark",),
        trials=(Trial(params={"lr": 0.1}, metrics={"val_loss": float("nan")}, chosen=True),),
        image_size=32,
        classes=2,
        test_size=2,
    )
    return replace(result, **changes)  # type: ignore[arg-type]


def recorded_of(result: Result, **changes: object) -> Recorded:
    recorded = Recorded(
        entry=entry_name(result.case, "check"),
        session="s1",
        role="check",
        time=now(),
        result=result,
        curve=((1, {"top1": 0.5, "system/x": 1.0}), (2, {"top1": 0.75})),
        facts={"scale": "tiny"},
    )
    return replace(recorded, **changes)  # type: ignore[arg-type]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / "ledger")
    ledger.open_session("s1", {"scale": "tiny"})
    return ledger


def assert_same(first: Result, second: Result) -> None:
    assert first.case == second.case
    assert first.case.id == second.case.id
    for name in ("metrics", "trials"):  # NaN is not equal to itself
        assert str(getattr(first, name)) == str(getattr(second, name))
    for part in ("outcomes", "queries", "contributions", "detections"):
        ours, theirs = getattr(first, part), getattr(second, part)
        assert (ours is None) == (theirs is None)
        for name, value in vars(ours).items() if ours else ():
            assert type(value) is type(getattr(theirs, name))
            if name == "lists":
                assert value == getattr(theirs, name)
                continue
            np.testing.assert_array_equal(value, getattr(theirs, name))
            assert np.asarray(value).dtype == np.asarray(getattr(theirs, name)).dtype
    plain = {"metrics": {}, "trials": (), "outcomes": None, "queries": None}
    plain |= {"contributions": None, "detections": None}
    assert replace(first, **plain) == replace(second, **plain)  # type: ignore[arg-type]
