"""The strength that a probe chooses: the same to rounding, and not too large."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bob.heads.logistic import C_VALUES
from bob.heads.probe import Probe, fit_probe
from bob.heads.strength import LeastLoss, least_between
from tests.micro_features import DATASETS, MICRO, Split, case_of, features_of

Change = Callable[[torch.Tensor], torch.Tensor]


def noise(features: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return features * (1 + 1e-7 * torch.randn(features.shape, generator=generator))


def other_order(features: torch.Tensor) -> torch.Tensor:
    """The same problem, every sum over features taken in another order."""
    order = torch.randperm(features.shape[1], generator=torch.Generator().manual_seed(1))
    return features[:, order]


def probe_of(split: Split, change: Change = lambda features: features) -> tuple[Probe, float, int]:
    """The probe, its test loss, and how many test images it gets right."""
    both = change(torch.cat([split.train, split.test]))
    train, test = both[: len(split.train)], both[len(split.train) :]
    probe = fit_probe(train, split.targets, classes=10, values=C_VALUES, holdout=0.1)
    logits = probe.head.logits(test).double()
    loss = float(torch.nn.functional.cross_entropy(logits, split.test_targets))
    return probe, loss, int((logits.argmax(1) == split.test_targets).sum())


def same(found: tuple[Probe, float, int], known: tuple[Probe, float, int]) -> None:
    assert found[0].c == pytest.approx(
        known[0].c, rel=1e-2
    )  # the grid's values are 1.8 times apart
    assert found[1] == pytest.approx(known[1], rel=5e-4)
    assert abs(found[2] - known[2]) <= 1


@pytest.mark.parametrize("dataset", ["digits", "font_digits"])
@pytest.mark.parametrize("backbone", MICRO)
def test_rounding_moves_neither_choice_nor_score(backbone: str, dataset: str) -> None:
    split = features_of(backbone, dataset)
    known = probe_of(split)
    assert not known[0].remarks
    assert known[0].head.converged
    for change in (noise, other_order):
        same(probe_of(split, change), known)


def test_threads_move_neither_choice_nor_score() -> None:
    split = features_of("vit_micro_glyphs", "digits")
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(probe_of(split))
    finally:
        torch.set_num_threads(threads)
    same(*found)
    assert found[0][0].c == pytest.approx(found[1][0].c, rel=0.01)


def test_the_tasks_that_choose_share_two_train_splits_and_one_recipe() -> None:
    digits, shifted = (features_of("resnet_micro_glyphs", key) for key in ("digits", "digits_c"))
    assert torch.equal(digits.train, shifted.train)
    for dataset in DATASETS:
        recipe = case_of("resnet_micro_glyphs", dataset).recipe.model_dump()
        assert recipe["c"] == C_VALUES
        assert recipe["holdout"] == 0.1


@pytest.mark.parametrize("backbone", [name for name in MICRO if name.endswith("glyphs")])
def test_a_held_out_part_that_is_all_right_does_not_ask_for_certainty(backbone: str) -> None:
    """One digit in thirty by other people is wrong; a probe of the grid's end would be certain."""
    split = features_of(backbone, "digits")
    probe, loss, right = probe_of(split)
    assert probe.c < 1
    assert loss < 0.3
    assert right / len(split.test_targets) > 0.9


def exactly(values: Sequence[float], loss: Callable[[float], float]) -> LeastLoss:
    losses = [loss(math.log(value)) for value in values]
    return least_between(values, losses, lambda first, last: losses[first:last])


@settings(deadline=None)
@given(centre=st.floats(-12, 10), bend=st.floats(0.01, 10), base=st.floats(0, 3))
def test_a_parabola_is_found_exactly(centre: float, bend: float, base: float) -> None:
    found = exactly(C_VALUES, lambda place: base + bend * (place - centre) ** 2)
    assert math.log(found.c) == pytest.approx(centre, abs=1e-4)
    assert not found.at_edge
    assert C_VALUES[found.nearest] <= found.c * (1 + 1e-6)
    assert found.c <= C_VALUES[found.nearest + 1] * (1 + 1e-6)


@pytest.mark.parametrize("first", [0, 1, 2])
def test_a_tie_of_neighbours_is_no_edge(first: int) -> None:
    """Whichever of two neighbours is the better by a hair, the choice lies between them."""
    values = [0.1, 1.0, 10.0, 100.0]
    found = []
    for hair in (-1e-9, 0.0, 1e-9):
        losses = [1.0 + abs(place - first - 0.5) ** 1.5 for place in range(4)]
        losses[first] += hair
        found.append(
            least_between(values, losses, lambda a, b, losses=losses: losses[a:b]).c  # type: ignore[misc]
        )
    assert found == pytest.approx([values[first] * math.sqrt(10)] * 3, rel=1e-6)


def test_rough_losses_are_corrected_by_close_ones() -> None:
    values = [10.0**power for power in range(7)]
    close = [(power - 2.2) ** 2 for power in range(7)]
    rough = [(power - 4.9) ** 2 for power in range(7)]
    asked = []

    def refine(first: int, last: int) -> list[float]:
        asked.append(first)
        return close[first:last]

    found = least_between(values, rough, refine)
    assert math.log10(found.c) == pytest.approx(2.2)
    assert asked == [4, 3, 2, 1]


@pytest.mark.parametrize(("sign", "edge"), [(1, 1e-6), (-1, 1e5)])
def test_a_loss_that_falls_to_the_end_of_the_grid_is_told(sign: int, edge: float) -> None:
    found = exactly(C_VALUES, lambda place: 100 + sign * place)
    assert found == LeastLoss(edge, C_VALUES.index(edge), at_edge=True)


def test_features_that_say_nothing_leave_nothing_to_choose() -> None:
    targets = torch.arange(60) % 3
    probe = fit_probe(torch.ones(60, 4), targets, classes=3, values=C_VALUES, holdout=0.1)
    assert probe.remarks == ()
    assert probe.c in C_VALUES


def test_one_value_is_taken_and_of_two_the_better() -> None:
    assert exactly([0.3], lambda place: place).c == 0.3
    assert exactly([0.3, 3.0], lambda place: -place) == LeastLoss(3.0, 1, at_edge=False)
