from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
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
from bob.errors import BobError
from bob.retrieval.metrics import (
    Ranked,
    average_precision,
    chance_bound,
    class_relevance,
    evaluate,
    first_fifth,
    marks,
    split_relevance,
    summarise,
)
from bob.retrieval.search import TensorRows, normalised, ranks, search

SETTINGS: tuple[Setting, ...] = ("easy", "medium", "hard")
some = settings(deadline=None, max_examples=25, derandomize=True)
seeds = st.integers(0, 2**32 - 1)


def integers(rng: np.random.Generator, count: int, width: int, high: int) -> torch.Tensor:
    """Features whose products are exact and often equal, zero rows among them."""
    made = rng.integers(-high, high + 1, (count, width))
    made[rng.random(count) < 0.1] = 0
    return torch.tensor(made, dtype=torch.float32)


def full_ranking(scores: np.ndarray) -> np.ndarray:
    return np.argsort(-scores, axis=1, kind="stable")


def positions(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


# --- search -------------------------------------------------------------------------------------


@some
@given(seeds, st.integers(1, 40), st.integers(1, 300), st.integers(1, 12), st.integers(1, 3))
def test_search_is_the_head_of_the_stable_ranking(
    seed: int, q: int, n: int, width: int, high: int
) -> None:
    rng = np.random.default_rng(seed)
    queries, database = integers(rng, q, width, high), integers(rng, n, width, high)
    exact = queries.numpy() @ database.numpy().T
    order = full_ranking(exact)
    for k in (1, int(rng.integers(1, n + 1)), n + 3):
        for block, memory in ((1, 1e-3), (128, 384), (1024, 384)):
            scores, found = search(queries, database, k, block=block, memory_mb=memory)
            assert (scores.dtype, found.dtype) == (torch.float32, torch.int64)
            np.testing.assert_array_equal(found.numpy(), order[:, :k])
            np.testing.assert_array_equal(
                scores.numpy(), np.take_along_axis(exact, order[:, :k], axis=1)
            )


@some
@given(seeds, st.integers(1, 300), st.integers(1, 70))
def test_equal_rows_are_exact_ties_wherever_they_lie(seed: int, n: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    few = torch.tensor(rng.standard_normal((5, width)), dtype=torch.float32)
    kind = torch.tensor(rng.integers(0, 5, n))
    queries = torch.tensor(rng.standard_normal((3, width)), dtype=torch.float32)
    by_kind = (normalised(queries) @ normalised(few).T).double()
    tops = by_kind.topk(2, dim=1)
    decided = tops.values[:, 0] - tops.values[:, 1] > 1e-5
    for block in (1, 1024):
        _, found = search(queries, few[kind], n, normalise=True, block=block)
        for line in range(3):
            for one in range(5):
                assert found[line][kind[found[line]] == one].diff().gt(0).all()
            best = (kind == tops.indices[line, 0]).nonzero().squeeze(1)
            if decided[line]:
                assert torch.equal(found[line, : len(best)], best)


def test_ties_at_the_boundary_go_to_lower_positions() -> None:
    database = torch.ones(2500, 4)
    database[2000] = 2.0
    _, found = search(torch.ones(1, 4), database, 5)
    assert found.tolist() == [[2000, 0, 1, 2, 3]]
    scores, found = search(torch.tensor([[0.0], [-0.0]]), torch.tensor([[-1.0], [1.0]]), 2)
    assert found.tolist() == [[0, 1], [0, 1]]
    assert torch.equal(scores, torch.zeros(2, 2))


@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_sorted_databases_overflow_no_memory(order: str) -> None:
    values = torch.arange(3000, dtype=torch.float32)
    database = (values if order == "ascending" else values.flip(0))[:, None]
    _, found = search(torch.tensor([[1.0], [-1.0]]), database, 70, block=64)
    np.testing.assert_array_equal(
        found.numpy(), full_ranking(np.array([[1.0], [-1.0]]) @ database.numpy().T)[:, :70]
    )


def test_blocks_and_threads_change_no_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(70, 37, generator=generator)
    database = torch.randn(1500, 37, generator=generator)
    wanted = [torch.randperm(1500, generator=generator)[: i * 7] for i in range(70)]
    results = []
    threads = torch.get_num_threads()
    for block, count in ((64, 1), (1024, 1), (1024, 3)):
        torch.set_num_threads(count)
        try:
            results.append(
                (
                    *search(queries, database, 20, block=block),
                    *ranks(queries, database, wanted, block=block, memory_mb=0.1),
                )
            )
            assert torch.get_num_threads() == count
        finally:
            torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_search_agrees_with_faiss() -> None:
    faiss = pytest.importorskip("faiss")
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(50, 24, generator=generator)
    database = torch.randn(3000, 24, generator=generator)
    index = faiss.IndexFlatIP(24)
    index.add(database.numpy())
    theirs, _ = index.search(queries.numpy(), 100)
    scores, found = search(queries, database, 100)
    np.testing.assert_allclose(scores.numpy(), theirs, rtol=1e-5, atol=1e-5)
    exact = (queries.double() @ database.double().T).gather(1, found)
    np.testing.assert_allclose(exact.numpy(), theirs, rtol=1e-5, atol=1e-5)


def test_cosine_of_extreme_and_zero_rows() -> None:
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0], [3e30, 4e30], [3e-30, 4e-30], [-3.0, -4.0]])
    made = normalised(rows)
    expected = torch.tensor([[0.6, 0.8], [0, 0], [0.6, 0.8], [0.6, 0.8], [-0.6, -0.8]])
    assert torch.allclose(made, expected)
    assert rows[0, 0] == 3.0
    scores, found = search(rows[:2], rows, 5, normalise=True)
    assert found[0, -2:].tolist() == [1, 4]
    assert found[1].tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(scores[1], torch.zeros(5))


def test_gradients_inference_mode_and_half_precision_are_no_obstacle() -> None:
    queries = torch.eye(4, requires_grad=True)
    database = torch.eye(4, dtype=torch.float16)
    expected = [[0, 1], [1, 0], [2, 0], [3, 0]]
    assert search(queries, database, 2)[1].tolist() == expected
    with torch.inference_mode():
        assert search(torch.eye(4), database, 2)[1].tolist() == expected
        assert ranks(torch.eye(4), database, [positions(3)] * 4)[3].tolist() == [0]


def test_nothing_to_search() -> None:
    assert search(torch.ones(0, 3), torch.ones(5, 3), 2)[1].shape == (0, 2)
    assert search(torch.ones(2, 3), torch.ones(0, 3), 2)[0].shape == (2, 0)
    assert ranks(torch.ones(0, 3), torch.ones(5, 3), []) == []
    assert [len(r) for r in ranks(torch.ones(1, 3), torch.ones(0, 3), [positions()])] == [0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("normalise", [True, False])
def test_features_that_are_not_finite_are_named(value: float, normalise: bool) -> None:
    good, bad = torch.ones(1500, 3), torch.ones(1500, 3)
    bad[1234, 1] = value
    for call in (
        lambda q, d: search(q, d, 3, normalise=normalise, memory_mb=1),
        lambda q, d: ranks(q, d, [positions(0)] * len(q), normalise=normalise),
    ):
        with pytest.raises(BobError, match=r"Query row 1234 holds NaN or infinity") as caught:
            call(bad, good)
        assert caught.value.kind == "features"
        with pytest.raises(BobError, match=r"Database row 1234 holds NaN or infinity"):
            call(good, bad)


def test_other_unusable_input_is_explained() -> None:
    with pytest.raises(BobError, match="row 1 is too long for float32"):
        search(torch.tensor([[1.0], [3e19]]), torch.ones(2, 1), 1)
    with pytest.raises(BobError, match="row 0 is too long for float32"):
        ranks(torch.ones(1, 3), torch.full((2, 3), 1.5e19), [positions(0)])
    with pytest.raises(BobError, match="Queries have 3 features and the database has 4"):
        search(torch.ones(1, 3), torch.ones(2, 4), 1)
    with pytest.raises(BobError, match="must be a matrix"):
        search(torch.ones(3), torch.ones(2, 3), 1)
    with pytest.raises(ValueError, match="k is 0"):
        search(torch.ones(1, 3), torch.ones(2, 3), 0)
    for wrong in (5, -1):
        with pytest.raises(BobError, match=f"Query 1 refers to database position {wrong}"):
            ranks(torch.ones(2, 3), torch.ones(5, 3), [positions(4), positions(0, wrong)])


class Streamed(TensorRows):
    """Counts rows read, and catches two threads reading at once."""

    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__(matrix)
        self.read = 0
        self.lock = threading.Lock()

    def rows(self, start: int, stop: int) -> torch.Tensor:
        assert self.lock.acquire(blocking=False)
        self.read += stop - start
        made = super().rows(start, stop)
        self.lock.release()
        return made


def test_database_is_read_once_or_twice() -> None:
    database = Streamed(torch.randn(1000, 5))
    search(torch.randn(30, 5), database, 10, block=64)
    assert database.read == 1000
    ranks(torch.randn(30, 5), database, [positions(1)] * 30, block=64)
    assert database.read == 2000
    ranks(torch.randn(30, 5), database, [positions(1)] * 30, block=64, memory_mb=0.1)
    assert database.read == 4000


# --- ranks --------------------------------------------------------------------------------------


@some
@given(seeds, st.integers(1, 70), st.integers(1, 300), st.integers(1, 12), st.integers(1, 3))
def test_ranks_are_those_of_the_stable_ranking(
    seed: int, q: int, n: int, width: int, high: int
) -> None:
    rng = np.random.default_rng(seed)
    queries, database = integers(rng, q, width, high), integers(rng, n, width, high)
    inverse = np.argsort(full_ranking(queries.numpy() @ database.numpy().T), axis=1)
    sizes = rng.choice([0, 1, n // 2, n], q)
    wanted = [torch.tensor(rng.permutation(n)[:size]) for size in sizes]
    for memory, block in ((1e-4, 1), (0.1, 64), (384, 1024)):
        found = ranks(queries, database, wanted, memory_mb=memory, block=block)
        for line, (mine, of) in enumerate(zip(found, wanted, strict=True)):
            assert mine.dtype == torch.int64
            np.testing.assert_array_equal(mine.numpy(), inverse[line][of.numpy()])


@some
@given(seeds, st.integers(1, 400), st.integers(1, 64))
def test_ranks_of_everything_are_a_permutation_and_agree_with_search(
    seed: int, n: int, width: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(9, width, generator=generator)
    database = torch.randn(n, width, generator=generator)[
        torch.randint(0, n, (n,), generator=generator)
    ]
    _, order = search(queries, database, n, normalise=True)
    for memory, block in ((1e-4, 1), (384, 1024)):
        found = ranks(queries, database, list(order), normalise=True, memory_mb=memory, block=block)
        for mine in found:
            assert torch.equal(mine, torch.arange(n))


def test_wanted_may_repeat() -> None:
    found = ranks(torch.ones(1, 1), torch.tensor([[1.0], [2.0], [1.0]]), [positions(2, 1, 2, 0)])
    assert found[0].tolist() == [2, 0, 2, 1]


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
        (queries @ (normalised(database) if cosine else database).T).numpy()
    ).tolist()
    relevance, groups = [], []
    for _ in range(q):
        part = rng.choice(4, n, p=rng.dirichlet((1, 0.5, 0.5, 1)))
        sets = [np.flatnonzero(part == kind) for kind in range(3)]
        relevance.append(Relevance(*(torch.tensor(each) for each in sets)))
        groups.append([set(each.tolist()) for each in sets])
    for setting in SETTINGS:
        pick = {"easy": ((0,), (1, 2)), "medium": ((0, 1), (2,)), "hard": ((1,), (0, 2))}[setting]
        yes, junk = ([set().union(*(g[i] for i in pick[s])) for g in groups] for s in (0, 1))
        ks = (1, 3, n, n + 5)
        if not any(yes):
            with pytest.raises(BobError, match="has a positive"):
                evaluate(queries, database, relevance, setting, ks=ks, normalise=cosine)
            continue
        found = evaluate(queries, database, relevance, setting, ks=ks, normalise=cosine)
        expected = by_definition(orders, yes, junk, ks)
        assert found.keys() == expected.keys()
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)


@some
@given(seeds, st.integers(1, 10), st.integers(2, 40))
def test_metrics_agree_with_torchmetrics_and_sklearn(seed: int, q: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    preds = torch.tensor(1 + rng.permutation(q * n).reshape(q, n), dtype=torch.float64)
    target = torch.tensor(rng.random((q, n)) < rng.random((q, 1)))
    target[0, 0] = True
    order = full_ranking(preds.numpy())
    none = np.empty(0, dtype=np.int64)
    found = summarise(
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
        assert found[name] == pytest.approx(float(metric.compute()), abs=1e-6), name
    full = [i for i in range(q) if target[i].any()]
    mine = np.mean([average_precision_score(target[i], preds[i]) for i in full])
    assert found["map_noninterpolated"] == pytest.approx(mine, abs=1e-12)


def test_a_worked_example() -> None:
    """Ranking: junk, positive, wrong, junk, positive; a second query has no positive."""
    ranked = [
        Ranked(np.array([1, 4]), np.array([0, 3])),
        Ranked(np.empty(0, dtype=np.int64), np.array([0])),
    ]
    found = summarise(ranked, ks=(1, 10))
    # Clean: positive, wrong, positive. Trapezoids (1 + 1)/2 and (1/2 + 2/3)/2, each half as wide.
    assert found == pytest.approx(
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
    made = class_relevance(torch.tensor([1, 0, 7]), torch.tensor([0, 1, 0, 1, 2]))
    assert [each.easy.tolist() for each in made] == [[1, 3], [0, 2], []]
    assert all(len(each.hard) == len(each.junk) == 0 for each in made)


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
