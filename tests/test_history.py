"""Scores over sessions: steps that were made are found, and noise is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bob.catalog import Catalog
from bob.cli import main
from bob.ledger import Ledger, Score
from bob.report.history import History, histories, segments
from tests.test_compare_command import NEW, OLD, ledger, ran, right

__all__ = ["ledger"]


def score(day: int, value: float, **changes: object) -> Score:
    plain = {
        "backbone": "a", "task": "knn", "dataset": "x", "scale": "smoke", "seed": 0,
        "metric": "top1", "value": value, "higher_is_better": True, "is_score": True,
        "protocol": "p", "data": "d", "session": f"s{day}", "seeded": False,
        "time": f"2026-01-{day:02d}T00:00:00+00:00",
    }  # fmt: skip
    return Score(**{**plain, **changes})  # type: ignore[arg-type]


def history(values: list[float], margin: float = 0.005, **changes: object) -> History:
    rows = [score(day, value, **changes) for day, value in enumerate(values, start=1)]
    commits = {f"s{day}": f"c{day}" for day in range(1, len(values) + 1)}
    (found,) = histories(rows, commits=commits, margin=lambda row: margin)
    return found


def test_a_step_is_found_where_it_was_made() -> None:
    found = history([0.9, 0.9, 0.9, 0.85, 0.85])
    (step,) = found.steps
    assert (step.before.commit, step.after.commit) == ("c3", "c4")
    assert (step.old, step.new) == pytest.approx((0.9, 0.85))
    assert step.worse
    assert not history([0.9, 0.9, 0.85], higher_is_better=False).steps[0].worse
    two = history([0.8, 0.8, 0.9, 0.9, 0.9, 0.85, 0.85])
    assert [step.worse for step in two.steps] == [False, True]
    assert not history([0.9, 0.9, 0.898, 0.898]).steps  # below what matters
    assert not history([0.9, 0.9, 0.9]).steps
    assert segments([0.5], 0.01) == [0, 1]


def test_noise_is_no_step_and_steps_in_noise_are_found() -> None:
    rng = np.random.default_rng(0)
    false = sum(
        bool(history((0.8 + 0.01 * rng.standard_normal(30)).tolist()).steps) for _ in range(200)
    )
    assert false <= 20
    found = 0
    for _ in range(100):
        values = 0.8 + 0.01 * rng.standard_normal(30)
        values[17:] -= 0.04
        steps = history(values.tolist()).steps
        found += any(step.after.commit in ("c17", "c18", "c19") and step.worse for step in steps)
    assert found >= 95


def test_other_protocols_data_and_seeds_are_another_history() -> None:
    rows = [score(day, 0.9) for day in (1, 2, 3)]
    for changes in ({"protocol": "q"}, {"data": "e"}, {"seeded": True, "seed": 3}):
        moved = [score(day, 0.5, **changes) for day in (4, 5)]
        assert not histories([*rows, *moved], commits={}, margin=lambda row: 0.005)
    moved = [score(day, 0.9, seed=3) for day in (4, 5)]  # nothing is random
    assert len(histories([*rows, *moved], commits={}, margin=lambda row: 0.0)[0].points) == 5
    assert not histories(rows[:2], commits={}, margin=lambda row: 0.0)


def test_what_became_worse_comes_first(
    ledger: Ledger, catalog: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = [right(597, 0.9)], [right(597, 0.8, 1)]
    for day in range(1, 6):
        ran(ledger, catalog, f"s{day}", day, OLD if day < 4 else NEW,
            a=("knn", good), b=("knn", good if day < 4 else bad))  # fmt: skip
    assert main(["report", "-o", "x.html"]) == 0
    text = (tmp_path / "x.html").read_text("utf-8")
    assert f"<code>{OLD[:9]}..{NEW[:9]}</code>" in text
    assert text.index("<h3>b knn/digits top1</h3>") < text.index("<h3>a knn/digits top1</h3>")
    assert text.count('class="worse"') == 1
