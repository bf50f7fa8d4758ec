"""The simulated cluster, held to examples worked by hand, and its table in the documentation."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from benchmarks import schedule
from benchmarks.cluster_model import Job, Losses, Outcome, Simulation, bound
from bob.executors.placing import has_room

PAGE = Path(__file__).parents[1] / "docs" / "cluster.md"


def run(
    jobs: Sequence[Job],
    gpus: int,
    *,
    losses: Losses | None = None,
    seed: int = 0,
    per_node: int = 8,
) -> Outcome:
    room = schedule.executors_room(gpus)
    return Simulation(jobs, gpus, room=room, losses=losses, seed=seed, per_node=per_node).run()


def whole(*hours: float) -> list[Job]:
    return [Job(each, test=place) for place, each in enumerate(hours)]


@pytest.mark.parametrize(
    ("jobs", "gpus", "makespan"),
    [
        ([], 4, 0.0),
        (whole(5.0), 4, 5.0),
        (whole(3.0, 2.0, 1.0), 1, 6.0),
        (whole(3.0, 2.0, 1.0), 2, 3.0),
        # Graham's example of longest first: 3+2+2 and 3+2, where 3+3 and 2+2+2 would take 6
        (whole(3.0, 3.0, 2.0, 2.0, 2.0), 2, 7.0),
        # four quarters share a GPU's speed
        ([Job(1.0, 0.25, place) for place in range(4)], 1, 4.0),
        # of two halves the one has two hours, one of them alone
        ([Job(1.0, 0.5, 0), Job(2.0, 0.5, 1)], 1, 3.0),
        # a half leaves no room for a whole, which waits although the GPU's other half is free
        ([Job(1.0, 0.5, 0), Job(1.0, 1.0, 1)], 1, 2.0),
        # what fits passes what does not: the half behind the whole shares with the first
        ([Job(1.0, 0.5, 0), Job(1.0, 1.0, 1), Job(1.0, 0.5, 2)], 1, 3.0),
        # a case that a test waits for goes first, whatever its length
        ([Job(4.0, test=1), Job(4.0, test=2), Job(1.0, test=0)], 2, 5.0),
    ],
)  # fmt: skip
def test_small_examples_are_as_worked_by_hand(jobs: list[Job], gpus: int, makespan: float) -> None:
    found = run(jobs, gpus)
    assert found.makespan == pytest.approx(makespan)
    work = sum(job.hours for job in jobs)
    assert found.used == pytest.approx(work / (gpus * makespan) if makespan else 0.0)
    assert (found.redone, found.losses, found.given_up) == (0, 0, 0)


def some(seed: int) -> list[Job]:
    draw = random.Random(seed)
    hours = sorted((draw.expovariate(1 / 20) for _ in range(60)), reverse=True)
    tests = draw.sample(range(60), 60)
    return [
        Job(each, draw.choice([0.25, 0.5, 1.0]), test)
        for each, test in zip(hours, tests, strict=True)
    ]


@pytest.mark.parametrize("gpus", [1, 3, 8, 20])
@pytest.mark.parametrize("seed", range(4))
def test_no_run_undercuts_the_bound(gpus: int, seed: int) -> None:
    jobs = some(seed)
    calm = run(jobs, gpus)
    least = bound(jobs, gpus)
    assert least <= calm.makespan + 1e-6
    # list scheduling: at worst the bound's two parts one behind the other, a GPU shared by four
    assert calm.makespan <= sum(job.hours for job in jobs) / gpus + 4 * max(
        job.hours for job in jobs
    )
    for save_every in (None, 1.0):
        losses = Losses(between=50.0, away=2.0, save_every=save_every, most=10**6)
        found = run(jobs, gpus, losses=losses, seed=seed)
        assert found.makespan + 1e-6 >= least
        # what the GPUs did is the work itself and what was lost of it, nothing else
        worked = found.used * found.makespan * gpus
        assert worked == pytest.approx(sum(job.hours for job in jobs) + found.redone)
        assert found == run(jobs, gpus, losses=losses, seed=seed)


def first_loss(between: float, seed: int) -> float:
    return random.Random(seed).expovariate(1 / between)


def test_a_lost_nodes_work_is_done_again() -> None:
    at = first_loss(100.0, 3)
    jobs = whole(at + 1.0)
    losses = Losses(between=100.0, away=2.0)
    anew = run(jobs, 1, losses=losses, seed=3)
    assert anew.losses == 1
    assert anew.redone == pytest.approx(at)
    assert anew.makespan == pytest.approx(at + 2.0 + at + 1.0)
    saved = run(jobs, 1, losses=Losses(between=100.0, away=2.0, save_every=0.25), seed=3)
    assert saved.redone == pytest.approx(at % 0.25)
    assert saved.makespan == pytest.approx(at + 2.0 + at % 0.25 + 1.0)


def test_another_node_takes_the_cases_of_a_lost_one() -> None:
    draw = random.Random(0)
    first, second = draw.expovariate(1 / 100.0), draw.expovariate(1 / 100.0)
    lost = min(first, second)
    assert abs(first - second) > 2.0
    jobs = whole(lost + 1.0, 1.0)
    losses = Losses(between=100.0, away=1000.0, save_every=0.5)
    found = Simulation(
        jobs, 2, room=schedule.executors_room(2), per_node=1, losses=losses, seed=0
    ).run()
    # the first node has the longer case; where it is lost the second goes on with it at once
    expected = lost + 1.0 + (lost % 0.5 if first < second else 0.0)
    assert found.makespan == pytest.approx(expected)


def test_a_case_that_gets_no_further_is_given_up_and_one_that_does_is_not() -> None:
    jobs = whole(500.0)
    often = Losses(between=20.0)
    assert run(jobs, 1, losses=often).given_up == 1
    saved = run(jobs, 1, losses=replace(often, save_every=0.1))
    assert saved.given_up == 0
    assert saved.losses > 3
    strict = run(jobs, 1, losses=replace(often, save_every=0.1, forgets=False))
    assert (strict.given_up, strict.losses) == (1, 3)


def test_no_more_cases_are_handed_out_than_gpus_take() -> None:
    node = partial(has_room, slots=64, gpus=8.0, nodes=1)
    assert node(8, 8.0)
    assert not node(9, 9.0)
    assert node(30, 7.5)
    assert not node(65, 8.0)
    without = partial(has_room, slots=4, gpus=0.0, nodes=2)
    assert [without(handed, 0.0) for handed in (0, 5, 6)] == [True, True, False]
    # nobody is there yet: what is handed out waits in Ray
    assert has_room(0, 0.0, slots=0, gpus=0.0, nodes=0)


def test_the_table_in_the_docs_is_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    schedule.main([])
    block = f"```\n$ python -m benchmarks.schedule\n{capsys.readouterr().out}```\n"
    assert block in PAGE.read_text(encoding="utf-8"), (
        "docs/cluster.md shows another table than `python -m benchmarks.schedule` prints"
    )
