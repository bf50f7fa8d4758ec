"""The gate's rules in simulated worlds: what is unchanged stays green, a small drop is seen."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.gate_power import METRICS, RULES, WORLDS, World, agreement, draw, main

TRIALS = 10_000


@pytest.mark.parametrize("seeds", [3, 8])
def test_the_arrays_decide_as_the_gate(seeds: int) -> None:
    assert agreement(15, seeds, np.random.default_rng(seeds)) == 15


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
@pytest.mark.parametrize("seeds", [3, 8])
def test_false_alarms_are_few_in_every_world(world: World, seeds: int) -> None:
    _, red = RULES["now"](draw(world, TRIALS, seeds, np.random.default_rng(1)))
    # 1 %, and three standard errors of the simulation
    assert red.mean() <= 0.01 + 3 * (0.01 / TRIALS) ** 0.5


@pytest.mark.parametrize("seeds", [3, 8])
def test_three_deviations_are_seen(seeds: int) -> None:
    draws = draw(WORLDS[0], TRIALS, seeds, np.random.default_rng(2))
    score = 3 * np.eye(METRICS)[0]
    caught = {name: rule(draws.shifted(score))[1].mean() for name, rule in RULES.items()}
    assert caught["now"] >= 0.78
    assert caught["before"] < caught["now"] <= caught["known"]


def test_the_command_prints_both_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--trials", "200", "--check", "2", "--gate-only"]) == 0
    out = capsys.readouterr().out
    assert "reference of 8 seeds" in out
    assert "reference of 3 seeds" in out
    assert out.count("restless, outliers") == 2 * len(RULES)
