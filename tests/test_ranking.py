"""Which backbone is best, and how sure that is."""

from __future__ import annotations

import csv
import io
import math
from functools import partial

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from bob.case import Failure, Result, Status, Verdict
from bob.catalog import Catalog
from bob.evaluation import Evaluation
from bob.intervals import wilson
from bob.report.cells import Cell
from bob.report.p_values import sign_flip
from bob.report.ranking import rank_cells
from bob.report.ranking_text import files, lines, notes
from tests.ranking_parts import Play, evaluation_of, ranked, shares


@pytest.fixture
def play(catalog: Catalog) -> Play:
    return partial(evaluation_of, catalog)


def test_wilson_is_the_textbook_s() -> None:
    for right, count in ((0, 5), (3, 7), (597, 597), (81, 263)):
        expected = binomtest(right, count).proportion_ci(method="wilson")
        assert wilson(right / count, count) == pytest.approx((expected.low, expected.high))


def test_order_z_scores_and_wins(play: Play) -> None:
    good, fair, poor = shares(90, 60, 30)
    found = ranked(
        [
            play("b_fair", "knn", fair), play("a_poor", "knn", poor), play("c_good", "knn", good),
            play("b_fair", "linear_probe", fair), play("a_poor", "linear_probe", poor),
            play("c_good", "linear_probe", good),
        ]
    )  # fmt: skip
    assert found is not None
    assert [standing.backbone for standing in found.standings] == ["c_good", "b_fair", "a_poor"]
    assert [standing.rank for standing in found.standings] == [1, 2, 3]
    assert [standing.wins for standing in found.standings] == [2, 0, 0]
    assert not any(standing.tied for standing in found.standings)
    assert [standing.mean_z for standing in found.standings] == pytest.approx(
        [(v - 0.6) / math.sqrt(0.06) for v in (0.9, 0.6, 0.3)]
    )
    assert all(
        standing.p_next is not None and standing.p_next < 1e-3 for standing in found.standings[:2]
    )
    assert found.standings[2].p_next is None


def test_one_setting_is_mcnemar_s_exact_test(play: Play) -> None:
    """Discordant pairs 7 and 1 of 40 images."""
    first = [True] * 7 + [False] + [True] * 20 + [False] * 12
    second = [False] * 7 + [True] + [True] * 20 + [False] * 12
    found = ranked([play("first", "knn", first), play("second", "knn", second)])
    assert found is not None
    assert found.standings[0].p_next == pytest.approx(binomtest(1, 8).pvalue)
    assert [(standing.rank, standing.tied) for standing in found.standings] == [
        (1, True),
        (1, True),
    ]


@pytest.mark.parametrize("count", [40, 900, 1100])
def test_signs_of_many_sizes_are_drawn_or_normal(count: int) -> None:
    rng = np.random.default_rng(0)
    for share in (0.5, 0.53, 0.6):
        signs = np.where(rng.random(count) < share, 1, -1)
        found = signs * (rng.random(count) + 0.1)
        z = abs(found.sum()) / math.sqrt(float(np.square(found).sum()))
        assert sign_flip(found) == pytest.approx(2 * norm.sf(z), abs=0.02)


def test_sign_flips_keep_their_level() -> None:
    """Of equal backbones about one in twenty pairs is told apart, not more."""
    rng = np.random.default_rng(0)
    found = [
        sign_flip(step[step != 0])
        for step in (rng.integers(-1, 2, 30).astype(float) for _ in range(200))
    ]
    assert np.mean(np.array(found) < 0.05) <= 0.08


def test_tasks_on_the_same_images_are_not_more_images(play: Play) -> None:
    """The same outcomes read by two tasks say no more than once."""
    first = [True] * 5 + [False] * 25
    second = [False] * 30
    once = ranked([play("a", "knn", first), play("b", "knn", second)])
    often = ranked([play(key, task, right) for task in ("knn", "linear_probe")
                  for key, right in (("a", first), ("b", second))])  # fmt: skip
    assert once is not None
    assert often is not None
    assert once.standings[0].p_next == pytest.approx(2 / 2**5)
    assert often.standings[0].p_next == pytest.approx(2 / 2**5)


def test_ties_share_the_better_rank(play: Play) -> None:
    rights = dict(zip("abcd", shares(91, 90, 40, 39), strict=True))
    found = ranked([play(key, "knn", right) for key, right in rights.items()])
    assert found is not None
    assert [(standing.rank, standing.tied) for standing in found.standings] == [
        (1, True), (1, True), (3, True), (3, True),
    ]  # fmt: skip
    table = "\n".join(lines(found))
    assert "=1    a" in table
    assert "=3    d" in table
    assert "within noise" in table


def test_equal_scores_are_a_tie_with_no_winner_less(play: Play) -> None:
    same = shares(50)[0]
    found = ranked([play("a", "knn", same), play("b", "knn", same)])
    assert found is not None
    for standing in found.standings:
        assert (standing.rank, standing.tied, standing.mean_z, standing.wins) == (1, True, 0.0, 1)


def test_who_lacks_a_score_is_ranked_on_the_rest_and_marked(play: Play, catalog: Catalog) -> None:
    good, fair, poor = shares(90, 60, 30)
    lost = play("b", "linear_probe")
    failed = Evaluation(
        case=lost.case,
        results=(Result(case=lost.case, failure=Failure("error", "no such depth")),),
        verdict=Verdict(status=Status.FAIL, reason="no such depth"),
        failure=Failure("error", "no such depth"),
    )
    found = ranked(
        [
            play("a", "knn", poor), play("b", "knn", good), play("c", "knn", fair),
            play("a", "linear_probe", good), failed, play("c", "linear_probe", poor),
            play("a", "low_shot", good, score=0.5), play("never", "knn"),
        ]
    )  # fmt: skip
    assert found is not None
    assert found.standings[0].backbone == "b"
    assert list(found.standings[0].z) == ["knn/digits top1"]
    assert found.unranked == ("never",)
    text = "\n".join(lines(found))
    assert "1 of 2*" in text
    assert "*: ranked on the settings it has a score in" in text
    assert "Not ranked, without a score to compare: never." in text


def test_nothing_to_rank(play: Play) -> None:
    good = shares(90)[0]
    assert ranked([]) is None
    assert ranked([play("a", "knn", good)]) is None
    assert ranked([play("a", "knn", good), play("b", "linear_probe", good)]) is None


def test_where_lower_is_better_the_sign_turns() -> None:
    cells = {
        "task/data loss": {"high": Cell(value=2.0, better=-1), "low": Cell(value=1.0, better=-1)}
    }
    found = rank_cells(cells, ["high", "low"])
    assert found is not None
    assert [standing.backbone for standing in found.standings] == ["low", "high"]
    assert [standing.wins for standing in found.standings] == [1, 0]
    assert found.standings[0].p_next is None
    assert not found.standings[0].tied
    assert any("no error of their own" in text for text in notes(found))


def test_scores_without_outcomes_are_compared_by_their_intervals(play: Play) -> None:
    rows = [False] * 100
    near = ranked([play("a", "low_shot", rows, score=0.61), play("b", "low_shot", rows, score=0.6)])
    far = ranked([play("a", "low_shot", rows, score=0.9), play("b", "low_shot", rows, score=0.3)])
    assert near is not None
    assert far is not None
    assert near.standings[0].tied
    assert not far.standings[0].tied


def test_seeds_widen_the_interval(play: Play) -> None:
    steady = ranked(
        [play("a", "finetune", *shares(60, 60, 60)), play("b", "finetune", *shares(50))]
    )
    restless = ranked(
        [play("a", "finetune", *shares(40, 60, 80)), play("b", "finetune", *shares(50))]
    )
    assert steady is not None
    assert restless is not None
    narrow, wide = (found.cells["finetune/digits top1"]["a"] for found in (steady, restless))
    assert narrow.value == wide.value == pytest.approx(0.6)
    assert (narrow.low, narrow.high) == pytest.approx(wilson(0.6, 100))
    assert (wide.high or 0) - (wide.low or 0) > 2 * ((narrow.high or 0) - (narrow.low or 0))
    assert any("trained on one seed" in text for text in notes(steady))


def test_files_hold_every_score(play: Play) -> None:
    good, fair = shares(90, 60)
    found = ranked([play("a", "knn", good), play("b", "knn", fair)])
    assert found is not None
    written = files(found)
    (first, second) = csv.DictReader(io.StringIO(written["ranking.csv"].decode()))
    assert (first["rank"], first["backbone"], first["score"]) == ("1", "a", "0.9")
    assert float(first["low"]) == pytest.approx(wilson(0.9, 100)[0], abs=1e-6)
    assert (second["z"], second["p_next"]) == ("-1", "")
    assert "| 1 | a | +1.00 | 1 | 1 of 1 |" in written["ranking.md"].decode()
