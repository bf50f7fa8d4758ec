from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from torchmetrics.retrieval import (
    RetrievalHitRate,
    RetrievalMAP,
    RetrievalMRR,
    RetrievalPrecision,
    RetrievalRecall,
)

from bob.datasets.base import Relevance, Setting
from bob.datasets.relevance import class_relevance, first_fifth
from bob.errors import BobError
from bob.retrieval.metrics import (
    Ranked,
    average_precision,
    chance_bound,
    evaluate,
    marks,
    split_relevance,
    summarise,
)
from bob.retrieval.search import unit_rows
from tests.test_retrieval import full_ranking, integers, positions, seeds, some

SETTINGS: tuple[Setting, ...] = ("easy", "medium", "hard")


# --- metrics, against definitions spelled out on the ranked list ---------------------------------


def listed(order: Sequence[int], yes: set[int], junk: set[int]) -> list[bool]:
    """Whether each item of the ranking is a positive, junk taken out."""
    return [item in yes for item in order if item not in junk]


def by_definition(
    orders: Sequence[Sequence[int]], yes: list[set[int]], junk: list[set[int]], ks: Sequence[int]
) -> dict[str, float]:
    sums: dict[str, list[float]] = {}
    authors = 0.0
    for order, good, bad in zip(orders, yes, junk, strict=True):
        if not good:
            continue
        authors += 1 / (1 + min(order.index(item) for item in good))
        flags = listed(order, good, bad)
        hits = 0
        trapezoid = plain = 0.0
        for seen, flag in enumerate(flags, start=1):
            if flag:
                before = hits / (seen - 1) if seen > 1 else 1.0
                hits += 1
                trapezoid += (before + hits / seen) / 2 / len(good)
                plain += hits / seen / len(good)
        first = flags.index(True) + 1
        last = max(place for place, flag in enumerate(flags, start=1) if flag)
        values = {"map": trapezoid, "map_noninterpolated": plain, "mrr": 1 / first}
        for k in ks:
            head = flags[:k]
            values[f"recall_{k}"] = sum(head) / len(good)
            values[f"hit_{k}"] = float(any(head))
            values[f"precision_{k}"] = sum(head) / k
            cut = min(k, last)
            values[f"precision_{k}_authors"] = sum(flags[:cut]) / cut
        for name, value in values.items():
            sums.setdefault(name, []).append(value)
    result = {name: sum(values) / len(values) for name, values in sums.items()}
    count = sum(not good for good in yes)
    return result | {
        "mrr_authors": authors / len(orders),
        "queries": float(len(orders)),
        "queries_without_positives": float(count),
    }


@some
@given(seeds, st.integers(1, 12), st.integers(1, 40), st.booleans())
def test_metrics_follow_their_definitions(seed: int, q: int, n: int, cosine: bool) -> None:
    rng = np.random.default_rng(seed)
    # Axis-parallel features have exact cosines, and many that are equal.
    queries = torch.eye(3)[torch.tensor(rng.integers(0, 3, q))]
    database = integers(rng, n, 3, 3) if not cosine else torch.eye(3)[rng.integers(0, 3, n)] * 2
    orders = full_ranking(
        (queries @ (unit_rows(database) if cosine else database).T).numpy()
    ).tolist()
    relevance, groups = [], []
    for _ in range(q):
        part = rng.choice(4, n, p=rng.dirichlet((1, 0.5, 0.5, 1)))
        sets = [np.flatnonzero(part == kind) for kind in range(3)]
        relevance.append(Relevance(*(torch.tensor(indices) for indices in sets)))
        groups.append([set(indices.tolist()) for indices in sets])
    for setting in SETTINGS:
        pick = {"easy": ((0,), (1, 2)), "medium": ((0, 1), (2,)), "hard": ((1,), (0, 2))}[setting]
        yes, junk = ([set().union(*(g[i] for i in pick[s])) for g in groups] for s in (0, 1))
        ks = (1, 3, n, n + 5)
        if not any(yes):
            with pytest.raises(BobError, match="has a positive"):
                evaluate(queries, database, relevance, setting, ks=ks, normalise=cosine)
            continue
        metrics = evaluate(queries, database, relevance, setting, ks=ks, normalise=cosine)
        expected = by_definition(orders, yes, junk, ks)
        assert metrics.keys() == expected.keys()
        assert metrics == pytest.approx(expected, rel=1e-12, abs=1e-12)


@some
@given(seeds, st.integers(1, 10), st.integers(2, 40))
def test_metrics_agree_with_torchmetrics_and_sklearn(seed: int, q: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    preds = torch.tensor(1 + rng.permutation(q * n).reshape(q, n), dtype=torch.float64)
    target = torch.tensor(rng.random((q, n)) < rng.random((q, 1)))
    target[0, 0] = True
    order = full_ranking(preds.numpy())
    none = np.empty(0, dtype=np.int64)
    summary = summarise(
        [Ranked(np.flatnonzero(target.numpy()[i][order[i]]), none) for i in range(q)], ks=(1, 5)
    )
    indexes = torch.arange(q)[:, None].expand(q, n)
    theirs = {"map_noninterpolated": RetrievalMAP, "mrr": RetrievalMRR}
    at_k = {"recall": RetrievalRecall, "precision": RetrievalPrecision, "hit": RetrievalHitRate}
    metrics = {name: make(empty_target_action="skip") for name, make in theirs.items()}
    metrics |= {
        f"{name}_{k}": make(empty_target_action="skip", top_k=k)
        for name, make in at_k.items()
        for k in (1, 5)
    }
    for name, metric in metrics.items():
        metric.update(preds.flatten(), target.flatten(), indexes=indexes.flatten())
        assert summary[name] == pytest.approx(float(metric.compute()), abs=1e-6), name
    full = [i for i in range(q) if target[i].any()]
    mine = np.mean([average_precision_score(target[i], preds[i]) for i in full])
    assert summary["map_noninterpolated"] == pytest.approx(mine, abs=1e-12)


def test_a_worked_example() -> None:
    """Ranking: junk, positive, wrong, junk, positive; a second query has no positive."""
    ranked = [
        Ranked(np.array([1, 4]), np.array([0, 3])),
        Ranked(np.empty(0, dtype=np.int64), np.array([0])),
    ]
    metrics = summarise(ranked, ks=(1, 10))
    # Clean: positive, wrong, positive. Trapezoids (1 + 1)/2 and (1/2 + 2/3)/2, each half as wide.
    assert metrics == pytest.approx(
        {
            "map": (1 + (1 / 2 + 2 / 3) / 2) / 2,
            "map_noninterpolated": (1 + 2 / 3) / 2,
            "mrr": 1.0,
            "mrr_authors": 1 / 2 / 2,
            "recall_1": 0.5,
            "hit_1": 1.0,
            "precision_1": 1.0,
            "precision_1_authors": 1.0,
            "recall_10": 1.0,
            "hit_10": 1.0,
            "precision_10": 0.2,
            "precision_10_authors": 2 / 3,
            "queries": 2.0,
            "queries_without_positives": 1.0,
        }
    )


def test_edges_of_the_metrics() -> None:
    everything = evaluate(
        torch.ones(2, 2), torch.ones(3, 2), class_relevance(torch.zeros(2), torch.zeros(3)), "easy"
    )
    assert everything["map"] == everything["recall_5"] == everything["mrr_authors"] == 1.0
    assert everything["precision_5"] == pytest.approx(0.6)
    only = Relevance(positions(), positions(0), positions())
    single = evaluate(torch.ones(1, 2), torch.ones(1, 2), [only], "hard")
    assert single["map"] == single["map_noninterpolated"] == 1.0
    assert average_precision(np.array([1])) == pytest.approx((0 + 1 / 2) / 2)
    with pytest.raises(ValueError, match="none may be below 1"):
        summarise([Ranked(np.array([0]), np.array([1]))], ks=(0,))


def test_ground_truth_that_contradicts_itself_is_refused() -> None:
    features = torch.eye(4)
    for broken in (
        Relevance(positions(1, 2), positions(2), positions()),
        Relevance(positions(1), positions(), positions(1)),
        Relevance(positions(3, 3), positions(), positions()),
    ):
        with pytest.raises(BobError, match=r"Query 0 names database position \d more than once"):
            evaluate(features[:1], features, [broken], "medium")
    with pytest.raises(BobError, match="position 4; the database has 4 rows"):
        evaluate(features[:1], features, [Relevance(positions(4), *[positions()] * 2)], "easy")
    with pytest.raises(ValueError, match="Unknown setting"):
        split_relevance(broken, "extreme")  # type: ignore[arg-type]


def test_marks() -> None:
    relevance = Relevance(positions(0), positions(2), positions(3))
    assert marks(positions(3, 0, 1, 2), relevance, "easy") == ["junk", "right", "wrong", "junk"]
    assert marks(positions(3, 0, 1, 2), relevance, "medium") == ["junk", "right", "wrong", "right"]


# --- chance -------------------------------------------------------------------------------------


def test_chance_bound_holds_for_noise_and_is_not_lax() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(400) % 8
    relevance = class_relevance(targets[:80], targets)
    bound = chance_bound(relevance, 400, "medium", draws=2000)
    scores = [
        summarise(
            [
                Ranked(
                    torch.randperm(400, generator=generator)[:50].sort()[0].numpy(), np.array([])
                )
                for _ in range(80)
            ]
        )["map"]
        for _ in range(100)
    ]
    deviation = float(np.std(scores))
    assert max(scores) < bound < np.mean(scores) + 4 * deviation
    assert bound == chance_bound(relevance, 400, "medium", draws=2000)
    assert bound != chance_bound(relevance, 400, "medium", draws=2000, seed=1)


def test_chance_bound_counts_junk_out() -> None:
    junk = torch.arange(1, 90)
    without = Relevance(positions(0), positions(), positions())
    with_junk = Relevance(positions(0), positions(), junk)
    nothing = Relevance(positions(), positions(), positions())
    low = chance_bound([without] * 50 + [nothing], 100, "easy", draws=500)
    assert chance_bound([with_junk] * 50 + [nothing], 100, "easy", draws=500) > 2 * low
    with pytest.raises(BobError, match="has a positive"):
        chance_bound([nothing], 100, "easy")


# --- ground truth and the paper's split ---------------------------------------------------------


def test_class_relevance() -> None:
    relevance = class_relevance(torch.tensor([1, 0, 7]), torch.tensor([0, 1, 0, 1, 2]))
    assert [entry.easy.tolist() for entry in relevance] == [[1, 3], [0, 2], []]
    assert all(len(entry.hard) == len(entry.junk) == 0 for entry in relevance)


def test_first_fifth_takes_the_first_by_name() -> None:
    names = [f"{i:03d}.jpg" for i in range(12)][::-1]
    targets = torch.tensor([0] * 11 + [1])  # class 1 has a single image, "000.jpg"
    queries, database = first_fifth(names, targets)
    assert [names[i] for i in queries] == ["001.jpg", "002.jpg"]
    assert [names[i] for i in database] == [f"{i:03d}.jpg" for i in (*range(3, 12), 0)]
    queries, database = first_fifth(names, targets, cap=5)
    assert [names[i] for i in queries] == ["001.jpg"]
    assert [names[i] for i in database] == ["002.jpg", "003.jpg", "004.jpg", "005.jpg", "000.jpg"]


@some
@given(seeds, st.integers(1, 120), st.one_of(st.none(), st.integers(1, 60)))
def test_first_fifth_counts(seed: int, n: int, cap: int | None) -> None:
    rng = np.random.default_rng(seed)
    targets = torch.tensor(rng.integers(0, 4, n))
    names = [f"{i:04d}" for i in rng.permutation(n)]
    sizes = [min(int((targets == c).sum()), cap or n) for c in range(4)]
    if max(sizes) < 5:
        with pytest.raises(BobError, match="No class has images enough"):
            first_fifth(names, targets, cap=cap)
        return
    queries, database = first_fifth(names, targets, cap=cap)
    assert len(set(queries.tolist()) | set(database.tolist())) == sum(sizes)
    for c, size in enumerate(sizes):
        mine = [names[i] for i in queries if targets[i] == c]
        rest = [names[i] for i in database if targets[i] == c]
        assert len(mine) == size // 5
        assert mine + rest == sorted(names[i] for i in range(n) if targets[i] == c)[:size]


def test_first_fifth_keeps_exact_shares_and_refuses_nonsense() -> None:
    queries, _ = first_fifth([str(i) for i in range(100)], torch.zeros(100), share=0.29)
    assert len(queries) == 29
    for wrong in ({"share": 0.0}, {"share": 1.0}, {"cap": 0}):
        with pytest.raises(ValueError, match="names and"):
            first_fifth(["a"], torch.zeros(1), **wrong)
    with pytest.raises(BobError, match="No class has images enough"):
        first_fifth([], torch.zeros(0))
