"""Held-out parts and low-shot draws: balanced, complete, and the same for ever."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bob.catalog import Catalog
from bob.datasets import ClassificationData, load_dataset
from bob.datasets.subsets import (
    STORED,
    held_out,
    labels_digest,
    low_shot_draws,
    shuffled,
    stratified,
)
from bob.errors import BobError

labels = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(torch.tensor)


def draws_of(targets: torch.Tensor, **settings: object) -> dict[str, list[np.ndarray]]:
    names = [str(index) for index in range(5)]
    asked = {"shots": (1, 5), "fractions": (0.1, 0.5), "draws": 3, **settings}
    return {key: list(value) for key, value in low_shot_draws(targets, names, **asked).items()}


@given(targets=labels, share=st.floats(0.02, 0.9))
def test_held_out_is_a_balanced_partition(targets: torch.Tensor, share: float) -> None:
    fit, choose = held_out(targets, share)
    assert sorted([*fit, *choose]) == list(range(len(targets)))
    assert set(targets[fit].tolist()) == set(targets.tolist()), "every class is fitted on"
    spare = len(targets) - len(set(targets.tolist()))
    assert len(choose) == min(spare, max(1, round(share * len(targets))))
    again = held_out(targets.clone(), share)
    assert np.array_equal(choose, again[1])


def test_held_out_takes_from_every_class() -> None:
    targets = torch.arange(10).repeat(30)
    _, choose = held_out(targets, 0.1)
    assert np.bincount(targets[choose]).tolist() == [3] * 10


@given(targets=st.lists(st.integers(0, 4), max_size=60).map(lambda some: [*range(5), *some]))
def test_draws_have_the_sizes_asked_for(targets: list[int]) -> None:
    truth = torch.tensor(targets)
    counts = np.bincount(targets)
    for name, picks in draws_of(truth).items():
        for rows in picks:
            sizes = np.bincount(truth[rows], minlength=5)
            assert len(set(rows.tolist())) == len(rows)
            assert (np.diff(rows) > 0).all()
            if name == "5shot":
                assert sizes.tolist() == np.minimum(counts, 5).tolist()
            elif name == "1shot":
                assert sizes.tolist() == [1] * 5
            else:
                fraction = {"10pct": 0.1, "50pct": 0.5}[name]
                assert len(rows) == max(5, round(fraction * len(targets)), _least(counts, fraction))
                assert (sizes >= 1).all()
                assert (sizes <= np.ceil(counts * fraction).clip(1)).all()


def _least(counts: np.ndarray, fraction: float) -> int:
    return int(np.maximum(1, np.floor(counts * fraction)).sum())


def test_draws_differ_from_each_other() -> None:
    targets = torch.arange(5).repeat(40)
    for picks in draws_of(targets).values():
        assert len({tuple(rows.tolist()) for rows in picks}) == 3


def test_the_stream_never_changes() -> None:
    """A changed value would silently give everybody other draws."""
    assert shuffled(10, "a", 1).tolist() == [7, 0, 9, 2, 4, 6, 5, 8, 1, 3]


def test_shipped_draws_belong_to_the_shipped_digits(catalog: Catalog) -> None:
    data = load_dataset(catalog.dataset("digits"))
    assert isinstance(data, ClassificationData)
    stored = json.loads((STORED / "digits.json").read_text())
    assert stored["sha256"] == data.sha256
    assert stored["labels"] == labels_digest(data.train.targets)
    asked = {"shots": (1, 5, 10), "fractions": (0.01, 0.1), "draws": 5}
    drawn = low_shot_draws(data.train.targets, data.class_names, **asked)
    assert {k: [rows.tolist() for rows in v] for k, v in drawn.items()} == stored["draws"]
    more = low_shot_draws(data.train.targets, data.class_names, **{**asked, "draws": 7})
    assert [rows.tolist() for rows in more["1pct"][:5]] == stored["draws"]["1pct"]
    assert len({tuple(rows.tolist()) for rows in more["1pct"]}) == 7


def test_stored_draws_come_before_computed_ones(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_dataset(catalog.dataset("digits"))
    assert isinstance(data, ClassificationData)
    asked = {"shots": (1,), "fractions": (), "draws": 5}
    before = low_shot_draws(data.train.targets, data.class_names, **asked)
    monkeypatch.setattr("bob.datasets.subsets.shuffled", lambda count, *name: np.arange(count))
    after = low_shot_draws(data.train.targets, data.class_names, **asked)
    assert all(np.array_equal(a, b) for a, b in zip(before["1shot"], after["1shot"], strict=True))


def test_a_class_without_images_is_named() -> None:
    targets = torch.tensor([0, 0, 1, 3, 4])
    with pytest.raises(BobError, match="no image of '2'"):
        draws_of(targets)


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=80))
def test_a_stratified_split_takes_its_share_of_every_class(labels: list[int]) -> None:
    targets = torch.tensor(labels)
    learn, score = stratified(targets, 0.2)
    assert sorted([*learn, *score]) == list(range(len(labels)))
    for label in set(labels):
        count = labels.count(label)
        tested = int((targets[score] == label).sum())
        assert abs(tested - count * 0.2) <= 0.5 or tested == (count > 1)
    again = stratified(targets.clone(), 0.2)
    assert all(
        (rows == expected).all() for rows, expected in zip(again, (learn, score), strict=True)
    )


def test_a_stratified_split_never_changes() -> None:
    """Scores on EuroSAT are comparable because everybody's draw is this one."""
    _, score = stratified(torch.arange(3).repeat_interleave(10), 0.2)
    assert score.tolist() == [0, 6, 12, 19, 20, 28]
