from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bob.errors import BobError
from bob.retrieval.blocks import encode
from bob.retrieval.search import TensorRows, ranks, search, unit_rows

some = settings(deadline=None, max_examples=25, derandomize=True)
seeds = st.integers(0, 2**32 - 1)


def integers(rng: np.random.Generator, count: int, width: int, high: int) -> torch.Tensor:
    """Features whose products are exact and often equal, zero rows among them."""
    values = rng.integers(-high, high + 1, (count, width))
    values[rng.random(count) < 0.1] = 0
    return torch.tensor(values, dtype=torch.float32)


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
            scores, nearest = search(queries, database, k, block=block, memory_mb=memory)
            assert (scores.dtype, nearest.dtype) == (torch.float32, torch.int64)
            np.testing.assert_array_equal(nearest.numpy(), order[:, :k])
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
    by_kind = (unit_rows(queries) @ unit_rows(few).T).double()
    tops = by_kind.topk(2, dim=1)
    decided = tops.values[:, 0] - tops.values[:, 1] > 1e-5
    for block in (1, 1024):
        _, nearest = search(queries, few[kind], n, normalise=True, block=block)
        for line in range(3):
            for row_kind in range(5):
                assert nearest[line][kind[nearest[line]] == row_kind].diff().gt(0).all()
            best = (kind == tops.indices[line, 0]).nonzero().squeeze(1)
            if decided[line]:
                assert torch.equal(nearest[line, : len(best)], best)


def test_ties_at_the_boundary_go_to_lower_positions() -> None:
    database = torch.ones(2500, 4)
    database[2000] = 2.0
    _, nearest = search(torch.ones(1, 4), database, 5)
    assert nearest.tolist() == [[2000, 0, 1, 2, 3]]
    assert torch.equal(encode(torch.tensor([-0.0]), 3), encode(torch.tensor([0.0]), 3))
    scores, nearest = search(torch.tensor([[0.0], [-0.0]]), torch.tensor([[-1.0], [1.0]]), 2)
    assert nearest.tolist() == [[0, 1], [0, 1]]
    assert torch.equal(scores, torch.zeros(2, 2))


@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_sorted_databases_overflow_no_memory(order: str) -> None:
    values = torch.arange(3000, dtype=torch.float32)
    database = (values if order == "ascending" else values.flip(0))[:, None]
    _, nearest = search(torch.tensor([[1.0], [-1.0]]), database, 70, block=64)
    np.testing.assert_array_equal(
        nearest.numpy(), full_ranking(np.array([[1.0], [-1.0]]) @ database.numpy().T)[:, :70]
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
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], result, strict=True))


def test_search_agrees_with_faiss() -> None:
    faiss = pytest.importorskip("faiss")
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(50, 24, generator=generator)
    database = torch.randn(3000, 24, generator=generator)
    index = faiss.IndexFlatIP(24)
    index.add(database.numpy())
    theirs, _ = index.search(queries.numpy(), 100)
    scores, nearest = search(queries, database, 100)
    np.testing.assert_allclose(scores.numpy(), theirs, rtol=1e-5, atol=1e-5)
    exact = (queries.double() @ database.double().T).gather(1, nearest)
    np.testing.assert_allclose(exact.numpy(), theirs, rtol=1e-5, atol=1e-5)


def test_cosine_of_extreme_and_zero_rows() -> None:
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0], [3e30, 4e30], [3e-30, 4e-30], [-3.0, -4.0]])
    unit = unit_rows(rows)
    expected = torch.tensor([[0.6, 0.8], [0, 0], [0.6, 0.8], [0.6, 0.8], [-0.6, -0.8]])
    assert torch.allclose(unit, expected)
    assert rows[0, 0] == 3.0
    scores, nearest = search(rows[:2], rows, 5, normalise=True)
    assert nearest[0, -2:].tolist() == [1, 4]
    assert nearest[1].tolist() == [0, 1, 2, 3, 4]
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
        block = super().rows(start, stop)
        self.lock.release()
        return block


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
        ranked = ranks(queries, database, wanted, memory_mb=memory, block=block)
        for line, (mine, of) in enumerate(zip(ranked, wanted, strict=True)):
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
        ranked = ranks(
            queries, database, list(order), normalise=True, memory_mb=memory, block=block
        )
        for mine in ranked:
            assert torch.equal(mine, torch.arange(n))


def test_wanted_may_repeat() -> None:
    ranked = ranks(torch.ones(1, 1), torch.tensor([[1.0], [2.0], [1.0]]), [positions(2, 1, 2, 0)])
    assert ranked[0].tolist() == [2, 0, 2, 1]
