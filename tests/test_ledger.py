"""The ledger: what is written is whole or not there, and comes back as it was."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest

from bob.case import (
    Case,
    Comparison,
    Failure,
    PublishedComparison,
    Result,
    Status,
    Verdict,
)
from bob.errors import BobError
from bob.ledger import Judgement, Ledger, score_rows
from bob.ledger.plain import case_from_plain, case_to_plain
from bob.ledger.records import entry_name, verdict_name
from tests.ledger_parts import assert_same, ledger, recorded_of, result_of

__all__ = ["ledger"]


def test_everything_of_a_case_is_kept(tiny_case: Case) -> None:
    odd = replace(tiny_case, size="64px", twin="other", reference_seeds=3, margins={"top1": 0.1})
    usual = {field.name: field.default for field in fields(Case)}
    told = set(case_to_plain(odd)) - {"id", "protocol"}
    assert told == set(usual)  # a field that is added is kept too
    assert case_from_plain(case_to_plain(odd)) == odd
    assert case_from_plain(case_to_plain(odd)).name == odd.name


def test_a_result_comes_back_as_it_was(ledger: Ledger, tiny_case: Case) -> None:
    recorded = recorded_of(result_of(tiny_case))
    ledger.write(recorded)
    (found,) = Ledger(ledger.root).entries()
    assert_same(found.result, recorded.result)
    assert replace(found, result=recorded.result) == recorded


def test_a_failure_comes_back_too(ledger: Ledger, tiny_case: Case) -> None:
    failure = Failure("nan-loss", "the loss became NaN", "Traceback ...")
    ledger.write(recorded_of(Result(case=tiny_case, failure=failure)))
    (found,) = ledger.entries("s1")
    assert found.result.failure == failure
    assert list(score_rows(found)) == []


def test_a_verdict_comes_back_as_it_was(ledger: Ledger, tiny_case: Case) -> None:
    comparison = Comparison(
        metric="top1", value=0.5, low=-float("inf"), high=float("inf"), reference=0.5,
        z=0.0, status=Status.INCONCLUSIVE, improved=True,
    )  # fmt: skip
    published = PublishedComparison(
        metric="top1", value=0.5, published=0.6, width=0.01, source="somebody"
    )
    verdict = Verdict(
        status=Status.FAIL, reason="nan", scores={0: 0.5, 1: float("nan")},
        comparisons=(comparison,), reference_seeds=(1000, 1001), origin="a file", stage=2,
        warnings=("look",), published=(published,),
    )  # fmt: skip
    judgement = Judgement(
        name=verdict_name(tiny_case), session="s1", entries=("a", "b"), verdict=verdict
    )
    ledger.write_verdict(judgement)
    (found,) = ledger.verdicts("s1")
    assert str(found) == str(judgement)
    assert found.verdict.comparisons == verdict.comparisons


def test_score_rows_say_what_a_row_needs(ledger: Ledger, tiny_case: Case) -> None:
    ledger.write(recorded_of(result_of(tiny_case)))
    (recorded,) = ledger.entries("s1")
    rows = {score.metric: score for score in score_rows(recorded, mlflow_run="r")}
    top1 = rows["top1"]
    assert (top1.value, top1.is_score, top1.higher_is_better) == (0.75, True, True)
    assert (top1.case, top1.protocol, top1.run_key) == (tiny_case.id, tiny_case.protocol, "k" * 16)
    assert (top1.session, top1.mlflow_run, top1.seconds, top1.gpu_hours) == ("s1", "r", 3600.0, 0)
    assert rows["test_loss"].higher_is_better is False
    assert not rows["test_loss"].is_score


def test_a_gpu_run_counts_its_hours(tiny_case: Case) -> None:
    result = result_of(tiny_case, environment={"device": "NVIDIA H100"})
    assert next(score_rows(recorded_of(result))).gpu_hours == 1.0


def test_a_folder_that_is_cleared_while_it_is_written_to_is_a_sessions_again(
    ledger: Ledger, tiny_case: Case
) -> None:
    ledger.write(recorded_of(result_of(tiny_case)))
    shutil.rmtree(ledger.root)
    ledger.write(recorded_of(result_of(tiny_case)))
    fresh = Ledger(ledger.root)
    assert fresh.sessions() == ["s1"]
    (found,) = fresh.entries()
    assert found.facts == next(iter(ledger.entries("s1"))).facts != {}


def test_a_disk_that_cannot_be_written_to_is_one_error(tmp_path: Path, tiny_case: Case) -> None:
    (tmp_path / "mlruns").write_text("a file where a folder should be")
    with pytest.raises(BobError, match=r"Cannot write to .*mlruns.*Nothing was run"):
        Ledger(tmp_path / "mlruns" / "ledger").open_session("s1", {})


def _write_many(root: Path, session: str, case: Case, count: int) -> None:
    ledger = Ledger(root)
    ledger.open_session(session, {})
    for seed in range(count):
        run = case.with_seed(seed)
        result = result_of(run, files={"large.bin": os.urandom(200_000)})
        ledger.write(recorded_of(result, session=session, entry=entry_name(run, "check")))


def test_two_sessions_write_at_once(tmp_path: Path, tiny_case: Case) -> None:
    context = multiprocessing.get_context("fork")
    writers = [
        context.Process(target=_write_many, args=(tmp_path, name, tiny_case, 20))
        for name in ("s1", "s2")
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    ledger = Ledger(tmp_path)
    found = [(recorded.session, recorded.result.case.seed) for recorded in ledger.entries()]
    assert sorted(found) == sorted((name, seed) for name in ("s1", "s2") for seed in range(20))
    assert ledger.damaged == []


def test_what_a_killed_writer_leaves_is_whole(tmp_path: Path, tiny_case: Case) -> None:
    context = multiprocessing.get_context("fork")
    writer = context.Process(target=_write_many, args=(tmp_path, "s1", tiny_case, 10_000))
    writer.start()
    while len(list(tmp_path.glob("s1/finetune-*"))) < 5:
        time.sleep(0.01)
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    ledger = Ledger(tmp_path)
    found = list(ledger.entries())
    assert len(found) >= 5
    assert ledger.damaged == []
    assert [recorded.result.case.seed for recorded in found] == list(range(len(found)))
