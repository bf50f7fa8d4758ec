"""Sessions that are killed: who is provably dead, and what the next session ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bob.ledger import Ledger
from bob.tracking import Destination
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
from bob.tracking.sync import sync
from bob.tracking.writer import Writer
from tests.replay_parts import Outcome, Replay, Undisturbed, same
from tests.store_parts import start_slow_session, statuses

pytestmark = pytest.mark.slow


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


def test_the_next_session_ends_what_a_killed_one_left_open(
    project: pytest.Pytester, local_store: Destination, outcome: Outcome, undisturbed: Undisturbed
) -> None:
    database = Path(local_store.uri.removeprefix("sqlite:///"))
    killed = start_slow_session(project, database, stdout=subprocess.DEVNULL)
    old = Writer(local_store)
    bare = old.client.create_run(old.experiment("bob/tiny/finetune"), tags={"bob.session": "old"})
    abroad = {**process_tags(), HOST: "elsewhere", "bob.session": "abroad"}
    other = old.client.create_run(old.experiment("bob/tiny/finetune"), tags=abroad)

    beside = Replay(local_store, outcome, seeds=1).start()
    running = statuses(database)
    assert running == {"pixels_coarse": "FINISHED", "slow": "RUNNING"}
    ledger = Ledger(project.path / "mlruns" / "ledger")
    (session,) = ledger.sessions()
    assert sync(ledger, Writer(local_store)).running == [session]

    killed.kill()  # and nobody has waited for it yet
    while not is_dead(old.client.get_run(_session_run(old, session)).data.tags):
        time.sleep(0.05)
    following = Replay(local_store, outcome, seeds=1).start()
    killed.wait()
    ended = statuses(database)
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
    report = sync(ledger, Writer(local_store), sessions=[session])
    assert (report.present, report.sent, report.mended, report.running) == (1, 0, 0, [])


def test_bob_sync_ends_what_a_killed_session_left_open(
    local_store: Destination, outcome: Outcome
) -> None:
    alive = Replay(local_store, outcome, seeds=1).whole()
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    writer = Writer(local_store)
    tags = {**process_tags(), PID: str(child.pid), STARTED: "", "bob.session": "gone"}
    left = writer.client.create_run(writer.experiment("bob/tiny/finetune"), tags=tags)
    report = sync(alive.ledger, Writer(local_store))
    assert [note.split(" (")[0] for note in report.notes] == [
        "  1 open runs of killed sessions are now KILLED"
    ]
    run = writer.client.get_run(left.info.run_id)
    assert run.info.status == "KILLED"
    assert run.data.tags["bob.ended_by"].startswith("bob sync on ")


def _session_run(writer: Writer, session: str) -> str:
    (run,) = (run for run in writer.runs(session, ["bob/tiny/sessions"]))
    return str(run.info.run_id)
