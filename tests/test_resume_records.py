"""What a resumed session leaves in MLflow, whenever it is killed and whatever it is made of."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bob.cli import main
from bob.ledger import Ledger
from bob.tracking import Destination, resolve_store
from bob.tracking.sending import tag
from bob.tracking.sync import sync
from bob.tracking.writer import Writer
from tests.store_parts import EmptyStore

Change = Callable[[dict[str, Any]], None]


def levels(uri: str, ledger: Path) -> Counter[str]:
    """How many active runs there are of each level; all of them have ended."""
    found = [run for run in every_run(uri, ledger) if tag(run, "bob.level") != "session"]
    assert {run.info.status for run in found} <= {"FINISHED", "FAILED"}
    return Counter(tag(run, "bob.level") for run in found)


def every_run(uri: str, ledger: Path) -> list[Any]:
    writer = Writer(Destination(uri, ledger.parent / "artifacts", ledger))
    return writer.search(writer.experiments("bob/"))


def orphans(uri: str, ledger: Path) -> list[str]:
    """Runs of seeds whose parent is not there."""
    found = every_run(uri, ledger)
    there = {run.info.run_id for run in found}
    return [
        run.info.run_name
        for run in found
        if tag(run, "bob.level") == "seed" and tag(run, "mlflow.parentRunId") not in there
    ]


@dataclass(frozen=True)
class Bench:
    """A project with one case and a store of its own."""

    project: pytest.Pytester
    uri: str

    @property
    def ledger(self) -> Path:
        return self.project.path / "mlruns" / "ledger"

    def session(self, *words: str, apart: bool = False) -> pytest.RunResult:
        run = self.project.runpytest_subprocess if apart else self.project.runpytest
        return run("--tracking-uri", self.uri, "-k", "pixels_fine or mine", *words)

    def sync(self) -> tuple[int, int, int, int]:
        report = sync(Ledger(self.ledger), Writer(resolve_store(self.project.path, self.uri)))
        return report.sent, report.mended, report.verdicts, report.sessions

    def levels(self) -> Counter[str]:
        return levels(self.uri, self.ledger)

    def orphans(self) -> list[str]:
        return orphans(self.uri, self.ledger)


@pytest.fixture
def bench(project: pytest.Pytester, empty_store: EmptyStore) -> Bench:
    return Bench(project, empty_store(project.path / "own.db"))


KILLED = """
import os, signal
from bob.tracking.{module} import {owner}

def pytest_configure(config):
    whole = {owner}.{method}

    def killed(self, *args, **words):
        if {when}:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(self, *args, **words)

    if str(config.getoption("--seeds")) == "{seeds}" and not os.path.exists("killed"):
        {owner}.{method} = killed
"""
"""A session of so many seeds is killed as it is about to do something."""

MOMENTS = {
    "parent without content": ("writer", "Writer", "add", "'bob.verdict_name' in args[1].tags"),
    "no run nested": ("writer", "Writer", "add", "'mlflow.parentRunId' in args[1].tags"),
}


@pytest.mark.parametrize("moment", ["parent without content", "no run nested"])
@pytest.mark.parametrize("first", ["", "--resume"])
def test_a_session_killed_in_its_verdict_is_made_good_by_the_next(
    bench: Bench, moment: str, first: str
) -> None:
    module, owner, method, when = MOMENTS[moment]
    if first:
        bench.session("--seeds", "2")
    bench.project.makeconftest(
        KILLED.format(module=module, owner=owner, method=method, when=when, seeds=3)
    )
    words = ("--seeds", "3", *([first] if first else []))
    assert bench.session(*words, apart=True).ret == -9
    (bench.project.path / "killed").touch()
    done = bench.session("--seeds", "3", "--resume")
    done.stdout.fnmatch_lines(["3 of 3 results are reused."])
    bench.sync()
    assert bench.levels() == Counter(case=1, seed=3)
    assert bench.orphans() == []
    assert bench.sync() == (0, 0, 0, 0)


def test_a_session_killed_before_it_lets_go_of_the_old_parent(bench: Bench) -> None:
    bench.session("--seeds", "2")
    bench.project.makeconftest(
        KILLED.format(module="adopting", owner="Adoption", method="judged", when="True", seeds=3)
    )
    assert bench.session("--seeds", "3", "--resume", apart=True).ret == -9
    (bench.project.path / "killed").touch()
    bench.session("--seeds", "3", "--resume")
    bench.sync()
    assert bench.levels() == Counter(case=1, seed=3)
    assert bench.orphans() == []
    assert bench.sync() == (0, 0, 0, 0)


@pytest.mark.parametrize("how", ["session", "sync"])
def test_a_parent_in_the_trash_is_made_anew(bench: Bench, how: str) -> None:
    bench.session("--seeds", "2")
    bench.session("--seeds", "2", "--resume")
    writer = Writer(resolve_store(bench.project.path, bench.uri))
    for run in every_run(bench.uri, bench.ledger):
        if tag(run, "bob.verdict_name"):
            writer.delete(run.info.run_id)
    assert bench.levels() == Counter(seed=2)
    _ = bench.session("--seeds", "2", "--resume") if how == "session" else bench.sync()
    assert bench.levels() == Counter(case=1, seed=2)
    assert bench.orphans() == []


def test_seeds_that_overlap_leave_no_run_without_its_parent(bench: Bench) -> None:
    bench.session("--seeds", "3")
    bench.session("--base-seed", "2", "--seeds", "2", "--resume")
    assert bench.orphans() == []
    bench.sync()
    assert bench.orphans() == []
    assert bench.sync() == (0, 0, 0, 0)


SEED_ONE_FAILS = """
import torch
from bob.backbones.micro import pooled_pixels

def make():
    if torch.initial_seed() == 1:
        raise ValueError("seed one")
    return pooled_pixels(grid=4)
"""


def test_fewer_seeds_of_another_verdict_and_sync_agree(bench: Bench) -> None:
    (bench.project.path / "mine.py").write_text(SEED_ONE_FAILS)
    bench.project.syspathinsert()
    words = ("--backbone", "mine:make,name=mine")
    bench.session(*words)
    bench.session(*words, "--seeds", "2", "--resume").assert_outcomes(failed=1)
    bench.session(*words, "--resume").assert_outcomes(passed=1, warnings=2)
    assert bench.orphans() == []
    bench.sync()
    before = every_run(bench.uri, bench.ledger)
    assert bench.sync() == (0, 0, 0, 0)
    assert bench.levels() == Counter(case=1, seed=2)
    assert [run.data.tags for run in every_run(bench.uri, bench.ledger)] == [
        run.data.tags for run in before
    ]


def test_results_of_another_precision_are_told(bench: Bench) -> None:
    bench.session("--precision", "bf16-mixed")
    again = bench.session("--resume", "--precision", "32-true", "--seeds", "2")
    again.stdout.fnmatch_lines(
        ["1 of 2 results are reused.", "  1 measured on cpu in precision bf16-mixed"]
    )


MODULES = {
    "models/__init__.py": "",
    "models/nets.py": "from models import blocks\nfrom .more import grid\n\ndef make():\n"
    "    import lazily\n    return blocks.pooled(grid() + lazily.MORE)\n",
    "models/blocks.py": "from torch import nn\nfrom torch.nn import functional\n\n"
    "def pooled(grid):\n    return nn.Sequential(nn.AdaptiveAvgPool2d(grid), nn.Flatten())\n",
    "models/more.py": "def grid():\n    return 4\n",
    "lazily.py": "MORE = 0\n",
}


@pytest.mark.parametrize("changed", ["models/blocks.py", "models/more.py", "lazily.py"])
def test_a_module_that_a_factory_imports_is_code_of_the_factory(bench: Bench, changed: str) -> None:
    root = bench.project.path
    (root / "models").mkdir()
    for name, text in MODULES.items():
        (root / name).write_text(text)
    bench.project.syspathinsert()
    words = ("--backbone", "models.nets:make,name=mine")
    bench.session(*words).assert_outcomes(passed=1, warnings=2)
    again = bench.session(*words, "--resume")
    again.stdout.fnmatch_lines(["1 of 1 results are reused."])
    (root / changed).write_text(f"{MODULES[changed]}\nANOTHER = 1\n")
    changed_now = bench.session(*words, "--resume")
    changed_now.stdout.fnmatch_lines(["0 of 1 results are reused."])


def raise_references(bench: Bench) -> None:
    """Change references so that what was measured falls below them."""
    for path in bench.project.path.glob("references/**/*.json"):
        text = path.read_text()
        changed = re.sub(r"(\"top1\": )0\.\d+", r"\g<1>0.999", text)
        assert changed != text
        path.write_text(changed)


def test_a_reference_that_is_measured_from_earlier_results_counts_them(bench: Bench) -> None:
    bench.session("--bands", "all", "--seeds", "3")
    raise_references(bench)
    bench.session("--seeds", "2").assert_outcomes(failed=1)
    again = bench.session("--seeds", "2", "--bands", "failed", "--resume")
    counts = re.search(r"(\d+) of (\d+) results are reused", again.stdout.str())
    assert counts is not None
    assert counts[1] == counts[2]


def test_check_knows_the_second_stage_of_what_is_to_be_loaded(
    bench: Bench,
    tiny_catalog_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (bench.project.path / "mine.py").write_text(SEED_ONE_FAILS.replace("== 1", "== 9"))
    bench.project.syspathinsert()
    words = ("--backbone", "mine:make,name=mine")
    bench.session(*words, "--bands", "all", "--seeds", "3")
    bench.session(*words).assert_outcomes(passed=1)
    monkeypatch.chdir(bench.project.path)
    scale = ("--catalog", str(tiny_catalog_file), "--scale=tiny", "--same-seed=off")

    def check() -> tuple[int, str]:
        capsys.readouterr()
        status = main(["check", *words, *scale, "--json"])
        (case,) = json.loads(capsys.readouterr().out)
        return status, case["state"]

    assert check() == (0, "looked_at")
    raise_references(bench)
    assert check() == (1, "missing")
    bench.session(*words, "--resume").assert_outcomes(failed=1)
    assert check() == (0, "looked_at")
