"""Backbones that retrieved are compared query by query."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import permutation_test

from bob.case import Case, QueryOutcomes, Result, Status, Verdict
from bob.catalog import BackboneEntry, Catalog
from bob.evaluation import Evaluation
from bob.ledger.units import units_of_result
from bob.plan import Plan, Selection
from bob.report.ranking_text import lines
from tests.ranking_parts import ranked

Precisions = NDArray[np.float64]


def retrieved(catalog: Catalog, backbone: str, precisions: Precisions) -> Evaluation:
    """An evaluation of a retrieval with so much average precision for each query."""
    plan = Plan(catalog, Selection(backbones=("vit_micro_glyphs",)))
    case: Case = plan.cases("retrieval")[0]
    entry = BackboneEntry(
        key=backbone, family="none", source="timm:none", pretraining="supervised, IN-1k"
    )
    case = replace(case, backbone=entry)
    ranks = np.ones(len(precisions), np.int64)
    result = Result(
        case=case,
        run_key=f"{case.id}{backbone}",
        metrics={"map": float(np.nanmean(precisions))},
        queries=QueryOutcomes(average_precisions=precisions, first_ranks=ranks),
        test_size=len(precisions),
        data_digest="data",
    )
    verdict = Verdict(status=Status.NO_REFERENCE, reason="")
    return Evaluation(case=case, results=(result,), verdict=verdict)


@pytest.fixture
def precisions() -> tuple[Precisions, Precisions]:
    rng = np.random.default_rng(5)
    first = rng.uniform(0, 1, 60)
    second = np.clip(first - 0.04 + 0.15 * rng.standard_normal(60), 0, 1)
    first[7] = second[7] = np.nan
    return first, second


def test_p_is_that_of_flipped_queries(
    catalog: Catalog, precisions: tuple[Precisions, Precisions]
) -> None:
    first, second = precisions
    found = ranked([retrieved(catalog, "a", first), retrieved(catalog, "b", second)])
    assert found is not None
    counted = ~np.isnan(first)
    expected = permutation_test(
        (first[counted], second[counted]), lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples", vectorized=True, n_resamples=50_000, rng=1,
    )  # fmt: skip
    assert found.standings[0].p_next == pytest.approx(expected.pvalue, abs=0.01)
    text = "\n".join(lines(found))
    error = np.nanstd(first, ddof=1) / np.sqrt(counted.sum())
    low, high = np.nanmean(first) - 1.96 * error, np.nanmean(first) + 1.96 * error
    assert f"[{low:.2f}, {high:.2f}]" in text
    assert "test images or queries" in text


def test_other_queries_are_not_paired(
    catalog: Catalog, precisions: tuple[Precisions, Precisions]
) -> None:
    first, second = precisions
    other = retrieved(catalog, "b", second)
    moved = replace(other, results=(replace(other.results[0], data_digest="other"),))
    alike = ranked([retrieved(catalog, "a", first), other])
    apart = ranked([retrieved(catalog, "a", first), moved])
    assert alike is not None
    assert apart is not None
    assert alike.standings[0].p_next is not None
    assert apart.standings[0].p_next is not None
    assert apart.standings[0].p_next > alike.standings[0].p_next


def test_queries_without_positives_are_left_out(
    catalog: Catalog, precisions: tuple[Precisions, Precisions]
) -> None:
    result = retrieved(catalog, "a", precisions[0]).results[0]
    units = units_of_result(result)
    assert units is not None
    assert len(units.values) == 59
    assert units.values.mean() == pytest.approx(result.metrics["map"])
    nothing = QueryOutcomes(
        average_precisions=np.full(3, np.nan), first_ranks=np.zeros(3, np.int64)
    )
    assert units_of_result(replace(result, queries=nothing)) is None
    assert units_of_result(replace(result, queries=None)) is None
