"""SIGTERM and checkpoints: one is written before the interrupt, for a bounded time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bob.case import Case, Context
from bob.catalog import load_catalog, parse_backbone
from bob.checkpoints.file import read
from bob.closing import TERMINATED
from bob.executors import Event, Finished, Progressed, Submission, make_executor
from tests.store_parts import hearing, run_statuses, start_slow_session


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["inline", "process"])
def test_sigterm_waits_for_a_checkpoint(project: pytest.Pytester, executor: str) -> None:
    database = project.path / "term.db"
    process = start_slow_session(
        project, database, further=["--executor", executor], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, preexec_fn=hearing,
    )  # fmt: skip
    until = time.monotonic() + 60
    while not (project.path / "trains").exists() and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == TERMINATED, output
    state, found = read(next((project.path / "mlruns" / "checkpoints").iterdir()))
    assert state["training"]["steps"] > 0
    assert found["device"] == "cpu"
    assert run_statuses(database)["session"] == "KILLED"


@pytest.mark.slow
def test_sigterm_does_not_wait_for_ever(project: pytest.Pytester) -> None:
    """A case that hangs in a step writes no checkpoint; the interrupt is raised all the same."""
    project.makepyfile(
        hung=textwrap.dedent(
            """
            import time
            from pathlib import Path
            from torch import nn

            class Hung(nn.Sequential):
                def forward(self, images):
                    if self.training:
                        Path("trains").touch()
                        time.sleep(300)
                    return super().forward(images)

            def make():
                return Hung(nn.AdaptiveAvgPool2d(4), nn.Flatten())
            """
        )
    )
    project.makeconftest("from bob import interrupts\ninterrupts.GRACE = 2.0\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "--backbone", "hung:make", "--seeds", "1"],
        cwd=project.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=hearing,
    )  # fmt: skip
    until = time.monotonic() + 60
    while not (project.path / "trains").exists() and time.monotonic() < until:
        time.sleep(0.05)
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == TERMINATED, output
    assert time.monotonic() - start >= 2.0
    assert not (project.path / "mlruns" / "checkpoints").exists()


@pytest.mark.slow
def test_processes_that_meet_sigterm_without_the_session_are_told_by_their_signal(
    tiny_case: Case, tmp_path: Path
) -> None:
    """As a scheduler sends it to every process of a job; its checkpoint stays for the next run."""
    note = tmp_path / "pid"
    spec = f"tests.rude_factories:notes_and_trains_slowly,note={note}"
    backbone = parse_backbone(spec, load_catalog())
    executor = make_executor("process")
    how = Context(accelerator="cpu", workers=0, checkpoints=str(tmp_path / "kept"))
    executor.submit(Submission("ticket", replace(tiny_case, backbone=backbone), how))
    events: list[Event] = []
    sent = False
    until = time.monotonic() + 60
    while not any(isinstance(event, Finished) for event in events):
        assert time.monotonic() < until
        executor.advance(events.append, waiting_for="ticket")
        trains = any(
            isinstance(event, Progressed) and event.progress.phase == "train" for event in events
        )
        if trains and not sent:
            case = int(note.read_text())
            forked_from = int(Path(f"/proc/{case}/stat").read_text().rpartition(")")[2].split()[1])
            for process in (forked_from, case):
                os.kill(process, signal.SIGTERM)
            sent = True
    executor.shutdown(cancel=True)
    failure = next(event.result.failure for event in events if isinstance(event, Finished))
    assert failure is not None
    assert failure.kind == "exit"
    assert "by SIGTERM" in failure.message
    assert read(next((tmp_path / "kept").iterdir()))[0]["training"]["steps"] > 0
