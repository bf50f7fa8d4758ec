"""Cases on a real Ray cluster of several nodes in one machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from bob.case import Case, Context, Progress, Result
from bob.errors import BobError
from bob.executors import (
    Event,
    Executor,
    Finished,
    Limit,
    Need,
    Progressed,
    Started,
    Submission,
    make_executor,
)
from bob.executors.contract import ExecutorContract
from bob.executors.ray_cluster import Wanted
from bob.run import run_case
from tests.ray_parts import STORE, running_cluster

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'battle-of-backbones[ray]'")

FACTORIES = "tests.rude_factories"
ROOT = Path(__file__).parents[1]
CONTEXT = Context(accelerator="cpu", workers=0)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and a second node, of one core each."""
    with running_cluster(1, 1) as made:
        ray.init(address=made.address, log_to_driver=False, configure_logging=False)
        yield made
        ray.shutdown()


@pytest.fixture
def executor(cluster: Any) -> Iterator[Executor]:
    made = make_executor("ray")
    yield made
    made.shutdown(cancel=True)


class TestRay(ExecutorContract):
    @pytest.fixture(autouse=True)
    def _running(self, cluster: Any) -> None:
        """The cluster is there before an executor joins it."""

    def make(self) -> Executor:
        return make_executor("ray")


def ends(
    executor: Executor, submissions: list[Submission], events: list[Event] | None = None
) -> dict[str, Result]:
    told: list[Event] = [] if events is None else events
    for submission in submissions:
        executor.submit(submission)
    until = time.monotonic() + 300
    while True:
        found = {event.ticket: event.result for event in told if isinstance(event, Finished)}
        left = [wanted.ticket for wanted in submissions if wanted.ticket not in found]
        if not left:
            return found
        assert time.monotonic() < until, left
        executor.advance(told.append, waiting_for=left[0])


def test_what_a_case_does_costs_no_other(
    executor: Executor, rude_case: Callable[[str], Case]
) -> None:
    specs = {
        "crash": "in_factory,how=segfault", "spoilt": "spoils_the_loss", "hung": "hangs",
        "polite": "polite",
    }  # fmt: skip
    limit = {"hung": Limit(4.0)}
    found = ends(
        executor,
        [
            Submission(name, rude_case(spec), CONTEXT, limit.get(name))
            for name, spec in specs.items()
        ],
    )
    kinds = {name: result.failure.kind if result.failure else "" for name, result in found.items()}
    assert kinds == {"crash": "exit", "spoilt": "", "hung": "timeout", "polite": ""}
    alone = run_case(rude_case("polite"), CONTEXT).metrics
    assert found["polite"].metrics["test_loss"] == pytest.approx(alone["test_loss"], abs=1e-6)
    assert found["spoilt"].metrics["test_loss"] == 0.0


def test_a_case_on_several_devices_takes_as_many_cores_of_one_node(
    cluster: Any, executor: Executor, rude_case: Callable[[str], Case]
) -> None:
    both = replace(CONTEXT, devices=2)
    case = rude_case("polite")
    refused = ends(executor, [Submission("refused", case, both)])["refused"]
    assert refused.failure is not None
    assert refused.failure.message == (
        "--devices=2 needs a node with 2 CPUs. Nodes of the cluster: 1 CPUs, 0 GPUs; 1 CPUs, "
        "0 GPUs. Take a smaller --devices."
    )
    node = cluster.add_node(num_cpus=2, object_store_memory=100 * 2**20)
    try:
        found = ends(executor, [Submission("first", case, both), Submission("second", case, both)])
    finally:
        cluster.remove_node(node)
    for result in found.values():
        assert result.failure is None, result.failure
        assert result.environment["devices"] == "2"


def test_long_cases_start_first_and_a_backbones_stand_together(
    rude_case: Callable[[str], Case],
) -> None:
    first, second = rude_case("polite"), rude_case("seeds_at_random")
    hours = {
        "short": (first, 0.1), "8": (second, 8.0), "9": (first, 9.0), "15": (second, 15.0),
        "longest": (second, 100.0), "unknown": (first, None),
    }  # fmt: skip
    wanted = [
        Wanted(Submission(name, case, CONTEXT, need=Need(estimate)))
        for name, (case, estimate) in hours.items()
    ]
    ordered = [case.ticket for case in sorted(wanted, key=lambda case: case.order)]
    assert ordered == ["longest", "9", "15", "8", "unknown", "short"]


def test_losses_count_since_a_case_came_further_than_ever(rude_case: Callable[[str], Case]) -> None:
    wanted = Wanted(Submission("case", rude_case("polite"), CONTEXT), losses=2)

    def told(epoch: int) -> int:
        progress = Progress(phase="epoch", epoch=epoch, epochs=9, metrics={"top1": 0.5})
        return sum(
            isinstance(event, Progressed) for event in wanted.new(Progressed("case", progress))
        )

    assert (told(0), told(1), wanted.losses) == (1, 1, 0)
    wanted.losses = 2
    assert (told(0), told(1), wanted.losses) == (0, 0, 2)
    assert (told(2), wanted.losses) == (1, 0)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_node_that_is_lost_costs_time_alone_and_leaves_no_process(
    cluster: Any, executor: Executor, rude_case: Callable[[str], Case]
) -> None:
    node = cluster.add_node(num_cpus=1, resources={"third": 1}, **STORE)
    events: list[Event] = []
    submissions = [
        Submission(f"slow-{seed}", rude_case("slow_steps").with_seed(seed), CONTEXT)
        for seed in range(3)
    ]
    for submission in submissions:
        executor.submit(submission)
    until = time.monotonic() + 200
    while len({event.ticket for event in events}) < 3:
        assert time.monotonic() < until
        executor.advance(events.append, waiting_for="slow-0")
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    workers = [child for child in raylet.children() if "ray::" in " ".join(child.cmdline())]
    left = [*workers, *(child for worker in workers for child in worker.children(recursive=True))]
    raylet.kill()
    while sum(isinstance(event, Finished) for event in events) < 3:
        assert time.monotonic() < until
        executor.advance(events.append, waiting_for="slow-0")
    for submission in submissions:
        own = [event for event in events if event.ticket == submission.ticket]
        assert own[0] == Started(submission.ticket)
        assert sum(isinstance(event, Started) for event in own) == 1
        assert isinstance(own[-1], Finished)
        assert own[-1].result.failure is None, own[-1].result.failure
        epochs = [
            event.progress.epoch
            for event in own
            if not isinstance(event, Started | Finished) and event.progress.metrics
        ]
        assert epochs == sorted(set(epochs))
    assert len(left) > 2, "the worker, what cases are forked from, and the case"
    while running := [process for process in left if _runs(process)]:
        assert time.monotonic() < until, running
        time.sleep(0.1)
    cluster.remove_node(node, allow_graceful=False)


def test_a_case_goes_to_the_node_that_has_its_data(
    executor: Executor, rude_case: Callable[[str], Case], tmp_path: Path
) -> None:
    found = ends(
        executor, [Submission("picky", rude_case(f"on_one_node_only,note={tmp_path}"), CONTEXT)]
    )
    assert found["picky"].failure is None, found["picky"].failure
    assert len(list(tmp_path.iterdir())) > 1
    nowhere = ends(executor, [Submission("nowhere", rude_case("on_no_node"), CONTEXT)])["nowhere"]
    assert nowhere.failure is not None
    assert nowhere.failure.kind == "unavailable"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"cpus": "none"}, "cpus=none: expected a number"),
        ({"cpus": "0"}, "cpus=0: expected a number"),
        ({"gpus": "-1"}, "gpus=-1: expected a number"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, str], told: str) -> None:
    with pytest.raises(BobError, match=told):
        make_executor("ray", options)


def test_a_session_starts_a_ray_of_its_own(project: pytest.Pytester) -> None:
    command = [
        sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--executor=ray", "--seeds=2",
        "--backbone=pixels_coarse", "--backbone=pixels_fine",
        f"--backbone={FACTORIES}:in_factory,how=segfault,name=crash",
    ]  # fmt: skip
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        "OMP_NUM_THREADS": "1",
    }
    began = time.monotonic()
    away = subprocess.run(
        [*command, "--ray-address=127.0.0.1:1"], cwd=project.path, capture_output=True, text=True,
        timeout=100, check=False, env=environment,
    )  # fmt: skip
    assert away.returncode == pytest.ExitCode.USAGE_ERROR
    assert "The Ray cluster '127.0.0.1:1' cannot be reached" in away.stderr
    assert time.monotonic() - began < 60
    done = subprocess.run(
        command, cwd=project.path, capture_output=True, text=True, timeout=300, check=False,
        env=environment,
    )  # fmt: skip
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "1 failed, 2 passed" in done.stdout, done.stdout
    assert "by SIGSEGV" in done.stdout
