"""``--resume`` and ``bob check``: results of earlier sessions stand, and the rest is run."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bob.case import Case, Context
from bob.cli import main
from bob.evaluator import Evaluator
from bob.executors import make_executor
from bob.ledger import Ledger
from bob.ledger.plain import result_arrays
from bob.ledger.records import Recorded
from bob.references.files import ReferenceStore
from bob.reuse import Earlier, State
from bob.tracking import NoTracker, resolve_store
from bob.tracking.sync import sync
from bob.tracking.writer import Writer
from tests.store_parts import EmptyStore, facts_of

Check = Callable[..., tuple[int, dict[str, Any]]]

FACTORY = """
from bob.backbones.micro import pooled_pixels

def make():
    return pooled_pixels(grid={grid})
"""

MORTAL = """
import os, pathlib, subprocess
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.AdaptiveAvgPool2d(6), nn.Flatten(), nn.Linear(108, 16))
        self.steps = 0

    def forward(self, images):
        self.steps += self.training
        if self.steps == 20 and pathlib.Path("kill").exists():
            pathlib.Path("kill").unlink()
            subprocess.run(["kill", "-9", str(os.getpid())])
        return self.body(images)

def make():
    return Net()
"""


@pytest.fixture
def store(project: pytest.Pytester, empty_store: EmptyStore) -> str:
    """A store of the project's own."""
    return empty_store(project.path / "own.db")


@pytest.fixture
def ledger(project: pytest.Pytester) -> Ledger:
    return Ledger(project.path / "mlruns" / "ledger")


def runs(project: pytest.Pytester, database: str = "own.db") -> dict[str, dict[str, Any]]:
    path = project.path / database
    return facts_of(Writer(resolve_store(project.path, f"sqlite:///{path}")))


def levels(project: pytest.Pytester, database: str = "own.db") -> Counter[str]:
    """How many runs there are of each level that have ended well."""
    found = runs(project, database).values()
    return Counter(run["tags"]["bob.level"] for run in found if run["status"] == "FINISHED")


def scores(ledger: Ledger) -> dict[tuple[str, int, str], float | None]:
    return {
        (entry.result.case.name, entry.result.case.seed, entry.role): entry.result.score
        for entry in ledger.entries()
    }


@pytest.fixture
def check(
    project: pytest.Pytester,
    tiny_catalog_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Check:
    """The exit status of ``bob check``, and what it says of each case."""
    words = ["--catalog", str(tiny_catalog_file), "--scale=tiny", "--same-seed=off", "--json"]

    def run(*further: str) -> tuple[int, dict[str, Any]]:
        monkeypatch.chdir(project.path)
        capsys.readouterr()
        status = main(["check", *words, *further])
        found = json.loads(capsys.readouterr().out)
        return status, {case["name"]: case for case in found}

    return run


def test_what_was_run_is_not_run_again(
    project: pytest.Pytester, store: str, ledger: Ledger
) -> None:
    words = ("--tracking-uri", store, "--seeds", "2")
    project.runpytest(*words).assert_outcomes(passed=2, warnings=2)
    before, at_first = scores(ledger), runs(project)
    again = project.runpytest(*words, "--resume")
    again.assert_outcomes(passed=2, warnings=2)
    again.stdout.fnmatch_lines(["4 of 4 results are reused.", "  4 results of session *, until *"])
    assert "experiments//" not in again.stdout.str()
    assert scores(ledger) == before
    assert len(list(ledger.entries())) == 4
    assert levels(project) == Counter(case=2, seed=4, session=2)
    cases = {name: run for name, run in at_first.items() if run["tags"]["bob.level"] != "session"}
    assert cases.items() <= runs(project).items()


def test_further_seeds_join_those_that_there_are(
    project: pytest.Pytester, store: str, ledger: Ledger
) -> None:
    project.runpytest("--tracking-uri", store)
    assert levels(project) == Counter(case=2, session=1)
    done = project.runpytest("--tracking-uri", store, "--seeds", "3", "--resume")
    done.stdout.fnmatch_lines(["2 of 6 results are reused."])
    assert levels(project) == Counter(case=2, seed=6, session=2)
    done = project.runpytest("--tracking-uri", store, "--seeds", "4", "--resume")
    done.stdout.fnmatch_lines(["6 of 8 results are reused."])
    assert levels(project) == Counter(case=2, seed=8, session=3)
    fewer = project.runpytest("--tracking-uri", store, "--seeds", "2", "--resume")
    fewer.stdout.fnmatch_lines(["4 of 4 results are reused."])
    assert levels(project) == Counter(case=2, seed=8, session=4)
    assert len(list(ledger.entries())) == 8


def test_without_it_everything_runs(project: pytest.Pytester, store: str, ledger: Ledger) -> None:
    for _ in range(2):
        project.runpytest("--tracking-uri", store).assert_outcomes(passed=2, warnings=2)
    assert len(list(ledger.entries())) == 4


def test_another_store_gets_what_is_reused_and_sync_adds_nothing(
    project: pytest.Pytester, store: str, empty_store: EmptyStore, ledger: Ledger
) -> None:
    project.runpytest("--tracking-uri", store)
    other = empty_store(project.path / "other.db")
    project.runpytest("--tracking-uri", other, "--seeds", "2", "--resume")
    assert levels(project, "other.db") == Counter(case=2, seed=4, session=1)
    writer = Writer(resolve_store(project.path, other))
    report = sync(ledger, writer)
    assert (report.sent, report.mended, report.verdicts, report.sessions) == (0, 0, 0, 1)
    empty_store(project.path / "third.db")
    sync(ledger, Writer(resolve_store(project.path, f"sqlite:///{project.path / 'third.db'}")))
    assert runs(project, "third.db") == runs(project, "other.db")
    report = sync(ledger, Writer(resolve_store(project.path, store)))
    assert levels(project) == Counter(case=2, seed=4, session=2)
    report = sync(ledger, Writer(resolve_store(project.path, store)))
    assert (report.sent, report.mended, report.verdicts, report.sessions) == (0, 0, 0, 0)


@pytest.mark.slow
def test_what_a_server_has_is_reused_on_another_machine(
    project: pytest.Pytester,
    ledger: Ledger,
    mlflow_server: tuple[str, subprocess.Popen[bytes]],
    check: Check,
) -> None:
    uri, _ = mlflow_server
    words = ("--tracking-uri", uri, "--seeds", "2")
    project.runpytest(*words).assert_outcomes(passed=2, warnings=2)
    before = {entry.entry: entry for entry in ledger.entries()}
    moved = ledger.root.with_name("of-the-first-machine")
    ledger.root.rename(moved)
    assert check("--tracking-uri", uri, "--seeds", "2")[0] == 0
    shutil.rmtree(ledger.root)
    again = project.runpytest(*words, "--resume")
    again.assert_outcomes(passed=2, warnings=2)
    again.stdout.fnmatch_lines(["4 of 4 results are reused."])
    again.stderr.no_fnmatch_line("*Downloading artifacts*")
    for entry in ledger.entries():
        first = before[entry.entry]
        assert entry.facts == first.facts
        assert (entry.session, entry.time, entry.curve) == (first.session, first.time, first.curve)
        assert entry.result.metrics == first.result.metrics
        assert result_arrays(entry.result).keys() == result_arrays(first.result).keys()
        for name, values in result_arrays(entry.result).items():
            assert np.array_equal(values, result_arrays(first.result)[name])
    store = facts_of(Writer(resolve_store(project.path, uri)))
    assert Counter(run["tags"]["bob.level"] for run in store.values()) == Counter(
        case=2, seed=4, session=2
    )


def test_an_interrupted_session_is_completed(
    project: pytest.Pytester, store: str, ledger: Ledger
) -> None:
    project.makeconftest(
        """
        import os, signal

        def pytest_bob_evaluated(config, evaluation):
            if not config.getoption("--resume"):
                os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    killed = project.runpytest_subprocess("--tracking-uri", store, "--seeds", "2")
    assert killed.ret == -9
    assert len(list(ledger.entries())) == 2
    done = project.runpytest("--tracking-uri", store, "--seeds", "2", "--resume")
    done.stdout.fnmatch_lines(["2 of 4 results are reused."])
    assert len(scores(ledger)) == len(list(ledger.entries())) == 4
    assert levels(project) == Counter(case=2, seed=4, session=1)


@pytest.mark.slow
def test_a_case_that_was_killed_goes_on_from_its_checkpoint(
    project: pytest.Pytester, store: str, ledger: Ledger
) -> None:
    """Its module kills the process at a step of the second epoch, once."""
    (project.path / "mortal.py").write_text(MORTAL)
    (project.path / "kill").touch()
    project.syspathinsert()
    words = (f"--tracking-uri={store}", "--backbone=mortal:make", "--save-every=0")
    assert project.runpytest_subprocess(*words).ret == -9
    (checkpoint,) = (project.path / "mlruns" / "checkpoints").glob("*.case")
    done = project.runpytest(*words, "--resume")
    done.assert_outcomes(passed=1, warnings=2)
    done.stdout.fnmatch_lines(["*the case went on from a checkpoint of *"])
    assert not checkpoint.exists()
    project.runpytest(*words).assert_outcomes(passed=1, warnings=1)
    resumed, whole = ledger.entries()
    assert resumed.result.metrics["top1"] == whole.result.metrics["top1"]
    assert [values["train_loss"] for values in resumed.result.history] == [
        values["train_loss"] for values in whole.result.history
    ]
    assert len(resumed.curve) == len(whole.curve) == 2


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_code_that_has_no_digest_is_loaded_and_compared(
    project: pytest.Pytester, store: str, ledger: Ledger, executor: str
) -> None:
    module = project.path / f"mine_{executor}.py"
    module.write_text(FACTORY.format(grid=4))
    project.syspathinsert()
    words = ("--tracking-uri", store, "--backbone", f"{module.stem}:make", "--executor", executor)
    run = project.runpytest
    run(*words).assert_outcomes(passed=1, warnings=2)
    run(*words, "--resume").stdout.fnmatch_lines(["1 of 1 results are reused."])
    assert len(list(ledger.entries())) == 1
    assert levels(project) == Counter(case=1, session=2)
    module.write_text(FACTORY.format(grid=10))  # of another size too, for Python
    run(*words, "--resume").stdout.fnmatch_lines(["0 of 1 results are reused."])
    keys = [entry.result.run_key for entry in ledger.entries()]
    assert len(set(keys)) == len(keys) == 2


@pytest.mark.parametrize(("database", "reused"), [("own.db", 2), ("other.db", 1)])
def test_a_damaged_result_is_named_and_taken_from_the_store_or_run_again(
    project: pytest.Pytester,
    store: str,
    ledger: Ledger,
    empty_store: EmptyStore,
    database: str,
    reused: int,
) -> None:
    project.runpytest("--tracking-uri", store)
    empty_store(project.path / "other.db")
    entry = next(ledger.root.glob("*/finetune-*/result.json"))
    entry.write_text(entry.read_text()[:-200])
    uri = f"sqlite:///{project.path / database}"
    done = project.runpytest("--tracking-uri", uri, "--resume")
    done.stdout.fnmatch_lines(
        [f"{reused} of 2 results are reused.", f"*could not be read*{entry.parent.name}*cut off*"]
    )
    assert len(list(ledger.entries())) == 2


def test_references_are_reused_as_references_alone(
    project: pytest.Pytester, store: str, ledger: Ledger
) -> None:
    words = ("--tracking-uri", store, "--resume")
    project.runpytest(*words, "--seeds", "2")
    first = project.runpytest(*words, "--bands", "all", "--seeds", "3")
    first.stdout.fnmatch_lines(["0 of 6 results are reused."])
    again = project.runpytest(*words, "--bands", "all", "--seeds", "4")
    again.stdout.fnmatch_lines(["6 of 8 results are reused."])
    judged = project.runpytest(*words, "--seeds", "2")
    judged.stdout.fnmatch_lines(["4 of 4 results are reused."])
    judged.assert_outcomes(passed=2)


def recorded_of(case: Case, ledger: Ledger, session: str) -> Recorded:
    """A real run of a case, kept."""
    ledger.open_session(session, {})
    Evaluator(
        executor=make_executor("inline"),
        context=Context(accelerator="cpu"),
        store=ReferenceStore(ledger.root / "none"),
        tracker=NoTracker(),
        ledger=ledger,
        session=session,
    ).evaluate(case)
    return next(ledger.entries(session))


def test_the_newest_result_counts(tiny_case: Case, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    first = recorded_of(tiny_case, ledger, "b")
    recorded_of(tiny_case, ledger, "a")
    ledger.write(replace(first, session="a", entry=f"{first.entry}-2"))
    standing = Earlier(ledger)(tiny_case, "check")
    assert standing.recorded is not None
    assert (standing.state, standing.recorded.session) == (State.DONE, "a")
    assert standing.recorded.time > first.time


def test_weights_drawn_by_another_version_are_not_taken_for_granted(
    tiny_case: Case, tmp_path: Path
) -> None:
    ledger = Ledger(tmp_path / "ledger")
    recorded = recorded_of(tiny_case, ledger, "a")
    assert not tiny_case.backbone.fixed
    result = recorded.result
    older = {**result.environment, "torch": "1.0"}
    ledger.write(replace(recorded, result=replace(result, environment=older)))
    standing = Earlier(ledger)(tiny_case, "check")
    assert standing.state is State.LOOKED_AT
    assert [found.result.run_key for found in standing.candidates] == [result.run_key]


def test_other_seeds_roles_names_and_recipes_do_not_count(tiny_case: Case, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    recorded_of(tiny_case, ledger, "a")
    earlier = Earlier(ledger)
    recipe = tiny_case.recipe.model_copy(update={"lr": 0.04})
    renamed = tiny_case.backbone.model_copy(update={"key": "another"})
    assert earlier(tiny_case.with_seed(1), "check").state is State.MISSING
    assert earlier(tiny_case, "reference").state is State.MISSING
    assert earlier(replace(tiny_case, backbone=renamed), "check").state is State.MISSING
    assert earlier(replace(tiny_case, recipe=recipe), "check").state is State.STALE


def test_check_says_what_is_missing_failed_stale_and_done(
    project: pytest.Pytester, store: str, ledger: Ledger, check: Check
) -> None:
    status, cases = check()
    assert (status, {case["state"] for case in cases.values()}) == (1, {"missing"})
    project.runpytest("--tracking-uri", store, "-k", "pixels_fine")
    status, cases = check()
    states = {name: case["state"] for name, case in cases.items()}
    assert (status, states) == (
        1, {"pixels_coarse-digits": "missing", "pixels_fine-digits": "done"},
    )  # fmt: skip
    assert cases["pixels_fine-digits"]["verdict"] == "no reference"
    assert check("-k", "pixels_fine")[0] == 0
    status, cases = check("-k", "pixels_fine", "--seeds", "2")
    assert (status, cases["pixels_fine-digits"]["state"]) == (1, "missing")
    assert [run["state"] for run in cases["pixels_fine-digits"]["runs"]] == ["done", "missing"]
    assert len(list(ledger.entries())) == 1


def test_check_tells_a_failure_from_a_change(
    project: pytest.Pytester, store: str, check: Check, tiny_catalog_file: Path
) -> None:
    def write(grid: int) -> None:
        entry = f"""
            {{family: pixels, source: "bob.backbones.micro:pooled_pixels",
              arguments: {{grid: {grid}}}, pretraining: none, scales: [tiny]}}"""
        broken.write_text(f"backbones:\n  pixels_broken:{entry}\n")

    broken = project.path / "broken.yaml"
    words = (
        f"--tracking-uri={store}", f"--catalog={tiny_catalog_file}", f"--catalog={broken}",
        "-k", "broken",
    )  # fmt: skip
    asked = (f"--catalog={broken}", "-k", "broken")
    write(grid=0)
    project.runpytest(*words).assert_outcomes(failed=1)
    status, cases = check(*asked)
    case = cases["pixels_broken-digits"]
    assert (status, case["state"], case["why"]) == (1, "failed", "backbone")
    write(grid=2)
    status, cases = check(*asked)
    assert (status, cases["pixels_broken-digits"]["state"]) == (1, "stale")
    project.runpytest(*words, "--resume").assert_outcomes(passed=1, warnings=1)
    assert check(*asked)[0] == 0
