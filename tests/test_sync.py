"""``bob sync``: what a store missed is sent from the ledger, every case exactly once."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bob.cli import main
from bob.evaluation import Evaluation
from bob.ledger import Ledger, score_rows
from bob.report.cells import cell
from bob.report.sources import scores_of_session
from bob.tracking import resolve_store
from bob.tracking.projection import RunContent
from bob.tracking.read import scores_of_store
from bob.tracking.sync import sync
from bob.tracking.writer import Writer
from tests.store_parts import EmptyStore, facts_of


def writer_of(folder: Path, name: str) -> Writer:
    return Writer(resolve_store(folder, f"sqlite:///{folder / name}"))


class Watcher:
    """A plugin that keeps what a session came to."""

    def __init__(self) -> None:
        self.evaluations: list[Evaluation] = []

    def pytest_bob_evaluated(self, config: pytest.Config, evaluation: Evaluation) -> None:
        self.evaluations.append(evaluation)


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def session(project: pytest.Pytester, empty_store: EmptyStore, watcher: Watcher) -> Path:
    """A project in which two seeds of two cases have run, undisturbed, and an empty store."""
    uri = empty_store(project.path / "undisturbed.db")
    empty_store(project.path / "later.db")
    done = project.runpytest("--tracking-uri", uri, "--seeds", "2", plugins=[watcher])
    done.assert_outcomes(passed=2, warnings=2)
    return project.path


def test_an_empty_store_gets_what_an_undisturbed_one_has(session: Path) -> None:
    ledger = Ledger(session / "mlruns" / "ledger")
    writer = writer_of(session, "later.db")
    report = sync(ledger, writer)
    assert (report.sent, report.mended, report.verdicts, report.sessions) == (4, 0, 2, 1)
    assert facts_of(writer) == facts_of(writer_of(session, "undisturbed.db"))
    levels = [run["tags"]["bob.level"] for run in facts_of(writer).values()]
    assert sorted(levels) == ["case", "case", "seed", "seed", "seed", "seed", "session"]


ASTRAY = ("/{}", "../../../../../../../../../{}", "..", "a/../../b")
"""Names of files that lead out of their folder."""


def test_a_summary_that_names_files_elsewhere_is_damaged(session: Path, tmp_path: Path) -> None:
    """A ledger may be somebody else's."""
    (file,) = (session / "mlruns" / "ledger").glob("*/summary.json")
    summary = json.loads(file.read_text())
    outside = tmp_path / "outside.txt"
    names = [name.format(str(outside)[1:]) for name in ASTRAY]
    ledger = Ledger(session / "mlruns" / "ledger")
    for name in names:
        file.write_text(json.dumps({**summary, "further": {name: "mine"}}))
        sync(ledger, writer_of(session, "later.db"))
        assert not outside.exists()
        assert "further" in str(ledger.damaged[-1])
    assert len(facts_of(writer_of(session, "later.db"))) == 6


def test_a_file_with_such_a_name_is_sent_nowhere(tmp_path: Path, empty_store: EmptyStore) -> None:
    writer = Writer(resolve_store(tmp_path, empty_store(tmp_path / "own.db")))
    outside = tmp_path / "outside.txt"
    run_id = writer.create("bob/x", "r", {}, ticket="t")
    names = [name.format(str(outside)[1:]) for name in ASTRAY]
    writer.add(run_id, RunContent(files={**dict.fromkeys(names, b"mine"), "board.md": b"theirs"}))
    assert not outside.exists()
    assert set(writer.artifacts(run_id)) == {"board.md"}
    assert sum("cannot be that of a file" in remark for remark in writer.remarks) == len(names)


def test_a_second_time_sends_nothing(session: Path) -> None:
    ledger = Ledger(session / "mlruns" / "ledger")
    for name in ("undisturbed.db", "later.db", "later.db"):
        report = sync(ledger, writer_of(session, name))
    assert (report.sent, report.mended, report.verdicts, report.sessions) == (0, 0, 0, 0)
    assert report.present == 4


@pytest.mark.slow
def test_one_that_is_killed_half_way_is_made_good(session: Path, empty_store: EmptyStore) -> None:
    reference = facts_of(writer_of(session, "undisturbed.db"))
    command = [sys.executable, "-m", "bob.cli", "sync", "--tracking-uri"]
    for moment in (1, 2, 3, 5):
        uri = empty_store(session / f"killed{moment}.db")
        process = subprocess.Popen([*command, uri], cwd=session, stdout=subprocess.DEVNULL)
        database = session / f"killed{moment}.db"
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if _rows(database, "runs") >= moment:
                break
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        writer = writer_of(session, database.name)
        sync(Ledger(session / "mlruns" / "ledger"), writer)
        assert facts_of(writer) == reference


def _rows(database: Path, table: str) -> int:
    import sqlite3
    from contextlib import closing

    if not database.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return int(connection.execute(f"select count(*) from {table}").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def test_the_three_readers_give_the_same_rows(session: Path, watcher: Watcher) -> None:
    ledger = Ledger(session / "mlruns" / "ledger")
    ours = [row for entry in ledger.entries() for row in score_rows(entry)]
    theirs = list(scores_of_store(writer_of(session, "undisturbed.db"), scale="tiny"))
    assert len(ours) == len(theirs) > 0
    ids = {row.mlflow_run for row in theirs}
    assert len(ids) == 4
    assert {(row.test_size, row.seeded) for row in theirs} == {(597, True)}

    (name,) = ledger.sessions()
    fresh = list(scores_of_session(watcher.evaluations, session=name))
    assert {row.mlflow_run for row in fresh} == ids

    def facts(row: Any) -> tuple[Any, ...]:
        return tuple(
            value for name, value in sorted(vars(row).items()) if name not in ("mlflow_run", "time")
        )

    expected = sorted(map(facts, ours), key=repr)
    assert sorted(map(facts, theirs), key=repr) == expected
    assert sorted(map(facts, fresh), key=repr) == expected


@pytest.mark.slow
def test_a_server_that_was_away_gets_every_case_once(
    project: pytest.Pytester,
    mlflow_server: tuple[str, subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
    empty_store: EmptyStore,
) -> None:
    """The server dies under the session's first case; the rest is sent to another store."""
    uri, process = mlflow_server
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    project.makeconftest(
        f"""
        import os, signal

        def pytest_bob_evaluated(config, evaluation):
            try:
                os.killpg({process.pid}, signal.SIGKILL)
            except ProcessLookupError:
                pass
        """
    )
    done = project.runpytest("--tracking-uri", uri, "--seeds", "2")
    done.assert_outcomes(passed=2, warnings=2)
    done.stdout.fnmatch_lines(["*not recorded in MLflow*", "*bob sync --tracking-uri*"])
    again = project.runpytest(
        "--tracking-uri", empty_store(project.path / "undisturbed.db"), "--seeds", "2",
        "--noconftest",
    )  # fmt: skip
    again.assert_outcomes(passed=2, warnings=2)
    ledger = Ledger(project.path / "mlruns" / "ledger")
    disturbed, whole = ledger.sessions()
    empty_store(project.path / "later.db")
    writer = writer_of(project.path, "later.db")
    report = sync(ledger, writer, sessions=[disturbed])
    assert (report.sent, report.verdicts, report.sessions) == (4, 2, 1)

    sent = facts_of(writer, disturbed)
    undisturbed = facts_of(writer_of(project.path, "undisturbed.db"), whole)
    assert sent.keys() == undisturbed.keys()
    for name, facts in sent.items():
        for part, value in facts.items():
            assert value == undisturbed[name][part], (name, part)


def test_damage_is_named_and_the_rest_is_sent(session: Path) -> None:
    ledger = Ledger(session / "mlruns" / "ledger")
    (name,) = ledger.sessions()
    entry = next(iter((session / "mlruns" / "ledger" / name).glob("finetune-*-s1-*")))
    (entry / "result.json").write_text("{")
    done = subprocess.run(
        [sys.executable, "-m", "bob.cli", "sync", "--tracking-uri", "sqlite:///later.db"],
        cwd=session, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "3 results" in done.stdout
    assert f"{entry}: result.json is cut off or not JSON" in done.stderr


def test_a_bent_summary_is_named_and_the_rest_is_sent(
    session: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(session)
    ledger = Ledger(session / "mlruns" / "ledger")
    (name,) = ledger.sessions()
    path = ledger.root / name / "summary.json"
    whole = path.read_text()
    path.write_text(json.dumps({**json.loads(whole), "rows": 3}))
    capsys.readouterr()
    assert main(["sync", "--tracking-uri", f"sqlite:///{session}/later.db"]) == 1
    told = capsys.readouterr()
    assert told.out.startswith("4 results and 2 verdicts sent to sqlite:///")
    assert f"left out: {path}: is not a summary" in told.err
    assert main(["summary"]) == 2
    assert "is not a summary (TypeError('rows is no list of records')); move it away" in (
        capsys.readouterr().err
    )
    path.write_text(whole)  # mended, it is sent as well
    report = sync(ledger, writer_of(session, "later.db"))
    assert (report.sent, report.verdicts, report.sessions) == (0, 0, 1)


def test_a_profile_of_each_source_tells_the_same(
    session: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tiny_catalog_file: Path,
) -> None:
    monkeypatch.chdir(session)
    shared = ["profile", "--scale", "tiny", "--catalog", str(tiny_catalog_file)]
    assert main([*shared, "--from", "ledger"]) == 0
    table = capsys.readouterr().out
    assert table.split()[:4] == ["setting", "score", "pixels_coarse", "pixels_fine"]
    assert re.search(r"finetune/digits +top1 +0[.]747 ± 0[.]0", table)
    store = f"sqlite:///{session}/undisturbed.db"
    assert main([*shared, "--from", "mlflow", "--tracking-uri", store]) == 0
    assert capsys.readouterr().out == table
    assert main([*shared, "--from", "mlflow", "--tracking-uri", store, "--session", "no"]) == 2
    assert "no score of scale 'tiny' in the mlflow" in capsys.readouterr().err


def test_a_store_of_an_older_version_is_read(tmp_path: Path, empty_store: EmptyStore) -> None:
    """Its runs do not say which metrics are the protocol's, nor what they loaded."""
    from mlflow import MlflowClient

    uri = empty_store(tmp_path / "old.db")
    client = MlflowClient(uri)
    experiment = client.create_experiment("bob/smoke/finetune")
    tags = {
        "bob.backbone": "some_net", "bob.family": "resnet", "bob.task": "finetune",
        "bob.dataset": "digits", "bob.seed": "3", "bob.role": "check", "bob.case": "c",
        "bob.protocol": "p", "bob.session": "s", "env.device": "cpu", "env.torch": "2",
    }  # fmt: skip
    for role in ("check", "trial"):
        run = client.create_run(experiment, tags={**tags, "bob.role": role})
        for name, value in {"top1": 0.5, "test_loss": 1.5, "seconds_total": 9.0}.items():
            client.log_metric(run.info.run_id, name, value)
        client.set_terminated(run.info.run_id)
    rows = {row.metric: row for row in scores_of_store(writer_of(tmp_path, "old.db"))}
    assert rows.keys() == {"top1", "test_loss"}
    top1 = rows["top1"]
    assert (top1.backbone, top1.seed, top1.value, top1.scale) == ("some_net", 3, 0.5, "smoke")
    assert (top1.is_score, top1.seconds, top1.run_key) == (True, 9.0, "")
    assert (top1.test_size, top1.seeded) == (0, None)
    assert cell([top1]).low is None
    assert cell([replace(top1, test_size=100)]).low is not None
    assert top1.environment == "device=cpu; torch=2"
