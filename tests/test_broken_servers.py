"""Stores that hang, lose replies, lie, fill up or vanish, and sessions that are killed.

What is sent are real results, through a real server behind a proxy that misbehaves. A store that is
back after ``bob sync`` must say what one says that was never disturbed.
"""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bob.case import Case, Context, Progress, Verdict
from bob.errors import BobError
from bob.evaluation import Bands
from bob.evaluator import Evaluator
from bob.executors import make_executor
from bob.ledger import Ledger
from bob.ledger.records import Judgement, Recorded
from bob.references.files import ReferenceStore
from bob.tracking import Destination, NoTracker, Tracker, projection
from bob.tracking.patience import Patience, allowed_seconds
from bob.tracking.process import (
    BOOT,
    HOST,
    MACHINE,
    PID,
    STARTED,
    is_alive_elsewhere,
    is_dead,
    process_tags,
)
from bob.tracking.projection import RunContent
from bob.tracking.sync import Report, sync
from bob.tracking.writer import Writer
from tests.test_sync import EmptyStore, facts_of
from tests.test_tracking import running_server
from tests.unruly_proxy import Proxy, always, first_times, passing

pytestmark = pytest.mark.slow


@dataclass
class Outcome:
    """Two seeds of a case that has a reference, and what they mean: real results."""

    recorded: tuple[Recorded, ...]
    judgement: Judgement


@pytest.fixture(scope="module")
def outcome(
    shared_store: str, tiny_case: Case, tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    folder = tmp_path_factory.mktemp("outcome")
    ledger = Ledger(folder / "ledger")
    for session, bands, seeds in (("measured", Bands.ALL, 3), ("checked", Bands.CHECK, 2)):
        ledger.open_session(session, {})
        Evaluator(
            executor=make_executor("inline"),
            context=Context(accelerator="cpu"),
            store=ReferenceStore(folder / "references"),
            tracker=NoTracker(),
            ledger=ledger,
            session=session,
            bands=bands,
            seeds=seeds,
            seeds_given=True,
        ).evaluate(tiny_case)
    (judgement,) = ledger.verdicts("checked")
    assert judgement.verdict.comparisons
    named = {entry.entry: entry for entry in ledger.entries("checked")}
    return Outcome(tuple(named[name] for name in judgement.entries), judgement)


class Replay:
    """A session that keeps and records the outcome as the evaluator does, without training.

    Args:
        store: Where it records.
        outcome: What comes out of it.
        seconds: How long the store may keep it waiting.
        seeds: How many of the two seeds it runs.
    """

    def __init__(
        self, store: Destination, outcome: Outcome, *, seconds: float = 30, seeds: int = 2
    ) -> None:
        root = store.ledger.parent / "project"
        root.mkdir(exist_ok=True)
        self.tracker = Tracker(store, "tiny", root)
        self.tracker.writer.patience = Patience(seconds)
        self.ledger = Ledger(store.ledger)
        self.recorded = [
            replace(entry, session=self.tracker.session) for entry in outcome.recorded[:seeds]
        ]
        self.judgement = replace(
            outcome.judgement,
            session=self.tracker.session,
            entries=tuple(entry.entry for entry in self.recorded),
        )
        self.pairs: list[tuple[str | None, Recorded]] = []
        self.waited = 0.0

    @property
    def session(self) -> str:
        return self.tracker.session

    @property
    def verdict(self) -> Verdict:
        return self.judgement.verdict

    def start(self) -> Replay:
        self.tracker.start_session({})
        self.ledger.open_session(self.session, self.tracker.facts)
        return self

    def results(self) -> Replay:
        for entry in self.recorded:
            self.result(entry)
        return self

    def result(self, entry: Recorded, *, broken: Callable[[], None] = lambda: None) -> None:
        """Record a seed; the store breaks once it has begun."""
        began = time.monotonic()
        run_id = self.tracker.start_case(entry.result.case, role=entry.role, entry=entry.entry)
        broken()
        for epoch, metrics in entry.curve:
            self.tracker.log_progress(
                run_id, Progress(phase="epoch", epoch=epoch - 1, epochs=2, metrics=metrics)
            )
        self.ledger.write(entry)
        self.tracker.finish_case(run_id, entry)
        self.pairs.append((run_id, entry))
        self.waited += time.monotonic() - began

    def judge(self) -> Replay:
        began = time.monotonic()
        self.ledger.write_verdict(self.judgement)
        self.tracker.log_verdict(self.pairs, self.verdict, name=self.judgement.name)
        self.waited += time.monotonic() - began
        return self

    def finish(self) -> Replay:
        began = time.monotonic()
        summary: dict[str, Any] = {"table": "| a |", "rows": [{"a": 1}], "counts": {"pass": 1}}
        self.ledger.write_summary(self.session, {**summary, "status": "FINISHED", "further": {}})
        self.tracker.finish_session(**summary, status="FINISHED")
        self.waited += time.monotonic() - began
        return self

    def whole(self) -> Replay:
        return self.start().results().judge().finish()

    def facts(self) -> dict[str, dict[str, Any]]:
        """What the store says of it now, asked anew."""
        return facts_of(Writer(self.tracker.store), self.session)

    def sync(self) -> Report:
        return sync(self.ledger, Writer(self.tracker.store), sessions=[self.session])


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
def local(tmp_path: Path, empty_store: EmptyStore) -> Destination:
    return Destination(
        empty_store(tmp_path / "local.db"), tmp_path / "artifacts", tmp_path / "ledger"
    )


@pytest.fixture(scope="module")
def undisturbed(
    shared_store: str, outcome: Outcome, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, dict[str, dict[str, Any]]]:
    """What a store says that was never disturbed, by seeds of the session."""
    folder = tmp_path_factory.mktemp("undisturbed")
    store = Destination(shared_store, folder / "artifacts", folder / "ledger")
    return {seeds: Replay(store, outcome, seeds=seeds).whole().facts() for seeds in (1, 2)}


def same(facts: dict[str, dict[str, Any]], expected: dict[str, dict[str, Any]]) -> bool:
    assert facts.keys() == expected.keys()
    for name, parts in facts.items():
        for part, value in parts.items():
            assert value == expected[name][part], (name, part)
    return True


Undisturbed = dict[int, dict[str, dict[str, Any]]]


@pytest.mark.parametrize("way", ["hang", "trickle", "hour", "html", "500"])
def test_a_server_that_goes_bad_holds_up_a_session_for_a_bounded_time(
    way: str, proxy: Proxy, remote: Destination, outcome: Outcome, undisturbed: Undisturbed
) -> None:
    replay = Replay(remote, outcome, seconds=1).start()
    replay.result(replay.recorded[0], broken=lambda: setattr(proxy, "rule", always(way)))
    replay.result(replay.recorded[1])
    replay.judge().finish()
    assert replay.waited < 1 + 3, replay.tracker.problems
    asked = len(proxy.asked)
    assert replay.tracker.problems.count("from there on nothing more was sent") == 1
    with pytest.raises(BobError, match=r"stopped taking session .* nothing is sent twice"):
        sync(replay.ledger, Writer(remote, patience=Patience(0.5)))
    assert len(proxy.asked) > asked
    proxy.rule = passing
    replay.sync()
    assert same(replay.facts(), undisturbed[2])


@pytest.mark.parametrize("way", ["hang", "trickle", "html", "500"])
def test_a_server_that_is_bad_at_the_start_runs_nothing(
    way: str, proxy: Proxy, remote: Destination, outcome: Outcome
) -> None:
    """It says that it is well, and takes nothing."""
    proxy.rule = always(way, of="/api/")
    began = time.monotonic()
    with pytest.raises(BobError, match=r"Cannot record to .* Nothing was run"):
        Replay(remote, outcome, seconds=1).start()
    assert time.monotonic() - began < 4


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


def test_a_server_that_is_busy_for_a_while_misses_nothing(
    proxy: Proxy,
    remote: Destination,
    outcome: Outcome,
    undisturbed: Undisturbed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    replay = Replay(remote, outcome, seeds=1).start()
    proxy.rule = first_times("503", 1, of="log-batch")  # parameters, or an epoch
    replay.results().judge().finish()
    assert [entry for entry in proxy.asked if entry.startswith("503")]
    assert not replay.tracker.problems
    assert same(replay.facts(), undisturbed[1])


def test_a_run_that_lacks_files_is_replaced(
    proxy: Proxy,
    remote: Destination,
    outcome: Outcome,
    undisturbed: Undisturbed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Metrics pass, and files do not."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
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


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("partly", [False, True])
def test_a_verdict_that_was_not_sent_is_sent_later(
    seeds: int,
    partly: bool,
    proxy: Proxy,
    remote: Destination,
    outcome: Outcome,
    undisturbed: Undisturbed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server is away between results and verdict, or dies in the middle of it."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
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


def test_a_database_that_another_process_locks(
    local: Destination, outcome: Outcome, undisturbed: Undisturbed
) -> None:
    replay = Replay(local, outcome, seconds=2).start()
    before = set(threading.enumerate())
    holder = subprocess.Popen(
        [
            sys.executable, "-c",
            "import sqlite3, sys, time\n"
            "held = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
            "held.execute('BEGIN EXCLUSIVE'); print('held', flush=True); time.sleep(60)",
            local.uri.removeprefix("sqlite:///"),
        ],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    replay.results().judge().finish()
    assert replay.waited < 2 + 3
    assert replay.tracker.problems
    holder.kill()
    holder.wait()
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=30)  # what was given up may still be carried out
    replay.sync()
    assert same(replay.facts(), undisturbed[2])


def test_a_database_that_is_deleted_meanwhile(
    local: Destination,
    outcome: Outcome,
    undisturbed: Undisturbed,
    empty_store: EmptyStore,
    tmp_path: Path,
) -> None:
    """MLflow goes on with the open file, which nobody else can see."""
    replay = Replay(local, outcome).start()
    Path(local.uri.removeprefix("sqlite:///")).unlink()
    replay.results().judge().finish()
    assert replay.tracker.problems[-1] == "from there on nothing more was sent"
    replay.tracker.store = replace(local, uri=empty_store(tmp_path / "new.db"))
    replay.sync()
    assert same(replay.facts(), undisturbed[2])


def test_a_full_disk_under_the_artifacts(
    local: Destination, outcome: Outcome, undisturbed: Undisturbed
) -> None:
    assert local.artifacts is not None
    local.artifacts.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(local.artifacts)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only an administrator can make a small disk")
    try:
        replay = Replay(local, outcome).whole()
        assert any("No space left" in remark for remark in replay.tracker.writer.remarks)
    finally:
        subprocess.run(["umount", str(local.artifacts)], check=True)
    replay.sync()
    assert same(replay.facts(), undisturbed[2])


def test_the_users_environment_is_left_as_it_is(
    local: Destination, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    before = dict(os.environ)
    assert allowed_seconds() == 30
    replay = Replay(local, outcome, seeds=1).start().results()
    seen: dict[str, str] = {}
    replay.tracker.writer.patience.ask(lambda: seen.update(os.environ))
    assert dict(os.environ) == before
    assert seen["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "10"

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "50")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    replay.tracker.writer.patience.ask(lambda: seen.update(os.environ))
    assert seen["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "50"
    assert allowed_seconds() == 100


def test_who_is_provably_dead() -> None:
    ours = process_tags()
    assert not is_dead(ours)
    assert not is_alive_elsewhere(ours)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    stat = Path(f"/proc/{child.pid}/stat")
    started = stat.read_text().rpartition(")")[2].split()[19] if stat.exists() else ""
    theirs = {**ours, PID: str(child.pid), STARTED: started}
    assert not is_dead(theirs)
    assert is_alive_elsewhere(theirs)
    os.kill(child.pid, signal.SIGSTOP)
    assert not is_dead(theirs)  # stopped is not dead
    if started:
        assert is_dead({**theirs, STARTED: "1"})  # its number was given to another
    child.kill()
    while not is_dead(theirs):  # a zombie, which nobody has waited for
        time.sleep(0.02)
    child.wait()
    assert is_dead(theirs)
    assert not is_dead({**theirs, HOST: "elsewhere"})
    assert not is_dead({**theirs, MACHINE: "another of that name"})
    assert not is_dead({name: text for name, text in theirs.items() if name != PID})
    if ours[BOOT] and ours[MACHINE]:
        boot, _, namespace = ours[BOOT].partition(" ")
        assert not is_dead({**theirs, BOOT: f"{boot} pid:[1]"})  # a container nobody can look into
        assert is_dead({**ours, BOOT: f"before {namespace}"})


SLOW_NET = """
import time
from torch import nn

class Slow(nn.Sequential):
    def forward(self, images):
        time.sleep(0.5)
        return super().forward(images)

def make():
    return Slow(nn.AdaptiveAvgPool2d(4), nn.Flatten())
"""


def test_the_next_session_ends_what_a_killed_one_left_open(
    project: pytest.Pytester, local: Destination, outcome: Outcome, undisturbed: Undisturbed
) -> None:
    project.makepyfile(slow_net=SLOW_NET)
    database = Path(local.uri.removeprefix("sqlite:///"))
    killed = subprocess.Popen(
        [
            sys.executable, "-m", "pytest", "--backbone", "pixels_coarse", "--backbone",
            "slow_net:make,name=slow", "--tracking-uri", local.uri, "--seeds", "1",
        ],
        cwd=project.path, stdout=subprocess.DEVNULL,
    )  # fmt: skip

    def statuses(tag: str) -> dict[str, str]:
        query = "select value, status from runs join tags using (run_uuid) where key = ?"
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return dict(connection.execute(query, (tag,)).fetchall())

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and killed.poll() is None:
        with suppress(sqlite3.OperationalError):
            if statuses("bob.backbone").get("slow") == "RUNNING":
                break
        time.sleep(0.1)
    old = Writer(local)
    bare = old.client.create_run(old.experiment("bob/tiny/finetune"), tags={"bob.session": "old"})
    abroad = {**process_tags(), HOST: "elsewhere", "bob.session": "abroad"}
    other = old.client.create_run(old.experiment("bob/tiny/finetune"), tags=abroad)

    beside = Replay(local, outcome, seeds=1).start()
    running = statuses("bob.backbone")
    assert running == {"pixels_coarse": "FINISHED", "slow": "RUNNING"}
    ledger = Ledger(project.path / "mlruns" / "ledger")
    (session,) = ledger.sessions()
    assert sync(ledger, Writer(local)).running == [session]

    killed.kill()  # and nobody has waited for it yet
    while not is_dead(old.client.get_run(_session_run(old, session)).data.tags):
        time.sleep(0.05)
    following = Replay(local, outcome, seeds=1).start()
    killed.wait()
    ended = statuses("bob.backbone")
    assert ended == {"pixels_coarse": "FINISHED", "slow": "KILLED"}
    run = old.client.get_run(_session_run(old, session))
    assert run.info.status == "KILLED"
    reason = f"session {following.session} on .*: process {killed.pid} was gone"
    assert re.fullmatch(reason, run.data.tags["bob.ended_by"])
    assert run.data.tags["bob.ended_at"].startswith("20")
    assert [line.split(" (")[0] for line in following.tracker.notes] == [
        "  2 open runs of killed sessions are now KILLED",
        "  runs open on elsewhere",
    ]
    for left in (bare.info.run_id, other.info.run_id, beside.tracker.session_run):
        assert old.client.get_run(left).info.status == "RUNNING"
    for alive in (beside, following):
        alive.results().judge().finish()
        assert same(alive.facts(), undisturbed[1])
    report = sync(ledger, Writer(local), sessions=[session])
    assert (report.present, report.sent, report.mended, report.running) == (1, 0, 0, [])


def _session_run(writer: Writer, session: str) -> str:
    (run,) = (run for run in writer.runs(session, ["bob/tiny/sessions"]))
    return str(run.info.run_id)


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
