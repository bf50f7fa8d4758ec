"""Servers that hang, lose replies, lie or go away.

What is sent are real results, through a real server behind a proxy that misbehaves. A store that is
back after ``bob sync`` must say what one says that was never disturbed.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bob import interrupts
from bob.errors import BobError
from bob.tracking import Destination, patience, projection
from bob.tracking.patience import Patience
from bob.tracking.projection import RunContent
from bob.tracking.sync import sync
from bob.tracking.writer import Writer
from tests.replay_parts import Outcome, Replay, Undisturbed, same
from tests.store_parts import running_server
from tests.unruly_proxy import Proxy, always, first_times, passing

pytestmark = pytest.mark.slow

SOON = 12.0
"""Seconds within which a bounded wait is over on a busy machine; without a bound it takes 30."""


@pytest.fixture(scope="module")
def proxy(shared_store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("server")
    template = Path(shared_store.removeprefix("sqlite:///")).with_name("empty.db")
    (folder / "server.db").write_bytes(template.read_bytes())
    with running_server(folder) as (uri, _):
        made = Proxy(int(uri.rpartition(":")[2]))
        yield made
        made.stop()


@pytest.fixture
def remote(proxy: Proxy, tmp_path: Path) -> Iterator[Destination]:
    proxy.rule = passing
    proxy.asked.clear()
    yield Destination(proxy.uri, None, tmp_path / "ledger")
    proxy.rule = passing


@pytest.fixture
def without_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.mark.parametrize("way", ["hang", "trickle", "hour", "429", "half", "html", "500"])
def test_a_server_that_goes_bad_holds_up_a_session_for_a_bounded_time(
    way: str, proxy: Proxy, remote: Destination, outcome: Outcome, undisturbed: Undisturbed
) -> None:
    replay = Replay(remote, outcome, seconds=1).start()
    replay.result(replay.recorded[0], broken=lambda: setattr(proxy, "rule", always(way)))
    replay.result(replay.recorded[1])
    replay.judge().finish()
    assert replay.waited < SOON, replay.tracker.problems
    asked = len(proxy.asked)
    assert replay.tracker.problems.count("from there on nothing more was sent") == 1
    with pytest.raises(BobError, match=r"stopped taking session .* nothing is sent twice"):
        sync(replay.ledger, Writer(remote, patience=Patience(0.5)))
    assert len(proxy.asked) > asked
    proxy.rule = passing
    replay.sync()
    assert same(replay.facts(), undisturbed[2])


@pytest.fixture
def interruptible() -> Iterator[None]:
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    restore = interrupts.install()
    yield
    restore()
    signal.signal(signal.SIGINT, former)


def test_an_interrupt_leaves_a_server_that_hangs_a_moment_for_last_words(
    proxy: Proxy,
    remote: Destination,
    outcome: Outcome,
    interruptible: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither its own patience nor the user's long time-outs count then."""
    monkeypatch.setattr(patience, "LAST_WORDS", 1.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "300")
    replay = Replay(remote, outcome, seconds=900, seeds=1).start()
    sent = threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT])

    def broken() -> None:
        proxy.rule = always("hang")
        sent.start()

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        replay.result(replay.recorded[0], broken=broken)
    assert time.monotonic() - began < SOON
    asked = len(proxy.asked)
    replay.tracker.kill(replay.tracker.session_run)
    replay.finish()
    assert time.monotonic() - began < SOON
    assert len(proxy.asked) == asked
    assert any("the session was interrupted" in text for text in replay.tracker.problems)
    sent.join()


def test_what_fails_before_the_store_is_asked_says_nothing_of_it(
    proxy: Proxy, remote: Destination, outcome: Outcome
) -> None:
    replay = Replay(remote, outcome).start()
    runs = [
        replay.tracker.start_case(entry.result.case, role="check", entry=entry.entry)
        for entry in replay.recorded
    ]
    for run_id, entry in zip(runs, replay.recorded, strict=True):
        broken = replace(entry.result, environment=None)  # type: ignore[arg-type]
        replay.tracker.finish_case(run_id, replace(entry, result=broken))
    assert len(replay.tracker.problems) == 2
    asked = len(proxy.asked)
    replay.finish()
    assert len(proxy.asked) > asked
    assert {run["status"] for run in replay.facts().values()} == {"FINISHED", "KILLED"}


def test_an_answer_to_something_else_does_not_hide_that_the_store_fails(
    proxy: Proxy, remote: Destination, outcome: Outcome
) -> None:
    """Between two failures stands work that needs no store."""
    replay = Replay(remote, outcome).start()
    proxy.rule = always("refuse")
    tracker, (first, second) = replay.tracker, replay.recorded
    assert tracker.start_case(first.result.case, role="check", entry=first.entry) is None
    tracker._attempt("nothing", lambda: None)
    assert tracker.start_case(second.result.case, role="check", entry=second.entry) is None
    assert tracker.problems[-1] == "from there on nothing more was sent"


@pytest.mark.usefixtures("without_retries")
def test_parameters_that_never_arrive_leave_no_finished_run(
    proxy: Proxy, remote: Destination, outcome: Outcome, undisturbed: Undisturbed
) -> None:
    """Neither when a case begins nor when it ends."""
    replay = Replay(remote, outcome, seeds=1)
    replay.start()
    real = replay.tracker.writer.add

    def add(run_id: str, content: RunContent, **options: Any) -> None:
        proxy.rule = always("500", of="log-batch") if content.params else passing
        try:
            real(run_id, content, **options)
        finally:
            proxy.rule = passing

    replay.tracker.writer.add = add  # type: ignore[method-assign]
    replay.results().judge().finish()
    statuses = {run["status"] for run in replay.facts().values() if run["tags"].get("bob.role")}
    assert statuses == {"KILLED"}
    assert replay.sync().mended == 1
    assert same(replay.facts(), undisturbed[1])


def test_what_a_store_refuses_for_good_stands_on_the_run(
    proxy: Proxy, remote: Destination, outcome: Outcome
) -> None:
    writer = Writer(remote)
    run_id = writer.create("bob/tiny/finetune", "odd", {}, ticket="odd")
    data = {"name": "n" * 600, "digest": "d", "source": "s", "profile": "p"}
    content = RunContent(params={"a|b": "1"}, tags={"kept": "1"}, dataset=data)
    writer.add(run_id, content)
    tags = writer.client.get_run(run_id).data.tags
    assert tags["kept"] == "1"
    assert tags["bob.incomplete"] == "parameters dataset"
    assert [text.split()[0] for text in writer.remarks] == ["parameters", "dataset"]


def test_a_dataset_and_an_argument_of_any_name_can_be_recorded(
    proxy: Proxy, remote: Destination, outcome: Outcome
) -> None:
    case = outcome.recorded[0].result.case
    odd = replace(
        case,
        dataset=case.dataset.model_copy(update={"key": "folder:" + "a/" * 400}),
        backbone=case.backbone.model_copy(update={"arguments": {"a|b" * 100: 1}}),
    )
    replay = Replay(remote, outcome, seeds=1).start()
    run_id = replay.tracker.start_case(odd, role="check", entry="odd")
    assert run_id
    assert not replay.tracker.problems
    assert not replay.tracker.remarks
    assert replay.tracker.client.get_run(run_id).inputs.dataset_inputs


@pytest.mark.parametrize("way", ["hang", "trickle", "html", "500"])
def test_a_server_that_is_bad_at_the_start_runs_nothing(
    way: str, proxy: Proxy, remote: Destination, outcome: Outcome
) -> None:
    """It says that it is well, and takes nothing."""
    proxy.rule = always(way, of="/api/")
    began = time.monotonic()
    with pytest.raises(BobError, match=r"Cannot record to .* Nothing was run"):
        Replay(remote, outcome, seconds=1).start()
    assert time.monotonic() - began < SOON


def test_a_server_nobody_can_find_runs_nothing(tmp_path: Path, outcome: Outcome) -> None:
    store = Destination("http://store.invalid:5000", None, tmp_path / "ledger")
    with pytest.raises(BobError, match=r"store\.invalid:5000 does not answer .* Nothing was run"):
        Replay(store, outcome).start()


def test_every_reply_is_lost_once(
    proxy: Proxy, remote: Destination, outcome: Outcome, undisturbed: Undisturbed
) -> None:
    """What the server did and nobody was told of is neither done twice nor given up."""
    replay = Replay(remote, outcome).start()
    proxy.rule = first_times("lose", 1)
    replay.results().judge().finish()
    assert not replay.tracker.problems
    lost = {entry.split()[2].split("?")[0] for entry in proxy.asked if entry.startswith("lose")}
    assert {"/api/2.0/mlflow/runs/create", "/api/2.0/mlflow/runs/log-batch"} < lost
    assert same(replay.facts(), undisturbed[2])


def test_replies_are_lost_while_a_part_is_replaced(
    proxy: Proxy, remote: Destination, outcome: Outcome, undisturbed: Undisturbed
) -> None:
    replay = Replay(remote, outcome).start()
    proxy.rule = always("500", of="/artifacts/")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        replay.results().judge().finish()
    proxy.rule = first_times("lose", 1)
    assert replay.sync().mended == 2
    assert "lose POST /api/2.0/mlflow/runs/delete" in proxy.asked
    proxy.rule = passing
    assert same(replay.facts(), undisturbed[2])


def test_a_run_that_is_made_after_its_second_try(
    proxy: Proxy, remote: Destination, outcome: Outcome, undisturbed: Undisturbed
) -> None:
    """A search right after the failure does not find what the server makes a second later."""
    replay = Replay(remote, outcome, seeds=1).start()
    proxy.rule = first_times("late", 1, of="runs/create")
    replay.results()
    time.sleep(1.2)
    assert len(replay.tracker.writer.search([experiment_of(replay)], query_of(replay))) == 2
    replay.judge().finish()
    assert not replay.tracker.problems
    assert same(replay.facts(), undisturbed[1])


def experiment_of(replay: Replay) -> str:
    return replay.tracker.writer.experiment("bob/tiny/finetune")


def query_of(replay: Replay) -> str:
    return f"tags.`bob.session` = '{replay.session}'"


@pytest.mark.usefixtures("without_retries")
def test_a_server_that_is_busy_for_a_while_misses_nothing(
    proxy: Proxy, remote: Destination, outcome: Outcome, undisturbed: Undisturbed
) -> None:
    replay = Replay(remote, outcome, seeds=1).start()
    proxy.rule = first_times("503", 1, of="log-batch")  # parameters, or an epoch
    replay.results().judge().finish()
    assert [entry for entry in proxy.asked if entry.startswith("503")]
    assert not replay.tracker.problems
    assert same(replay.facts(), undisturbed[1])


@pytest.mark.usefixtures("without_retries")
def test_a_run_that_lacks_files_is_replaced(
    proxy: Proxy, remote: Destination, outcome: Outcome, undisturbed: Undisturbed
) -> None:
    """Metrics pass, and files do not."""
    replay = Replay(remote, outcome).start()
    proxy.rule = always("500", of="/artifacts/")
    replay.result(replay.recorded[0])
    proxy.rule = passing
    replay.result(replay.recorded[1])
    replay.judge().finish()
    assert not replay.tracker.problems
    assert any("did not arrive" in remark for remark in replay.tracker.writer.remarks)
    assert {run["status"] for run in replay.facts().values()} == {"FINISHED"}
    report = replay.sync()
    assert (report.present, report.mended, report.verdicts) == (1, 1, 1)
    assert same(replay.facts(), undisturbed[2])


@pytest.mark.usefixtures("without_retries")
@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("partly", [False, True])
def test_a_verdict_that_was_not_sent_is_sent_later(
    seeds: int,
    partly: bool,
    proxy: Proxy,
    remote: Destination,
    outcome: Outcome,
    undisturbed: Undisturbed,
) -> None:
    """The server is away between results and verdict, or dies in the middle of it."""
    replay = Replay(remote, outcome, seeds=seeds).start().results()
    if partly and seeds == 1:  # MLflow stores the metrics of a batch before its tags
        (run_id,) = (run_id for run_id, _ in replay.pairs)
        assert run_id is not None
        metrics = projection.judged(replay.verdict).metrics
        replay.tracker.writer.add(run_id, RunContent(metrics=metrics))
    away = always("refuse", of="log-batch" if partly and seeds == 2 else "")
    proxy.rule = away
    replay.judge().finish()
    assert replay.tracker.problems[0].startswith("verdict: ")
    proxy.rule = passing
    report = replay.sync()
    assert (report.sent, report.mended, report.verdicts) == (0, 0, 1)
    assert same(replay.facts(), undisturbed[seeds])
    again = replay.sync()
    assert (again.present, again.verdicts, again.sessions) == (seeds, 0, 0)


def test_the_summary_of_a_session_that_another_one_ended_is_sent(
    proxy: Proxy, remote: Destination, outcome: Outcome, undisturbed: Undisturbed
) -> None:
    """Its last words did not arrive, and the next session called it killed."""
    replay = Replay(remote, outcome, seconds=1, seeds=1).start().results().judge()
    proxy.rule = always("refuse")
    replay.finish()
    proxy.rule = passing
    writer = Writer(remote)
    run_id = replay.tracker.session_run
    assert run_id is not None
    writer.tag(run_id, {"bob.ended_by": "session next"})
    writer.end(run_id, "KILLED")
    assert replay.sync().sessions == 1
    assert same(replay.facts(), undisturbed[1])
