"""Files of running cases: what is in them, when they are written, taken up, refused and removed."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bob.case import Case, Context, Emit, Progress, Result
from bob.checkpoints import path_of, remove, unfinished_path
from bob.checkpoints.case_checkpoint import CaseCheckpoint
from bob.checkpoints.file import Damaged, read, write
from bob.checkpoints.randomness import Randomness
from bob.errors import BobError
from bob.evaluator import Evaluator
from bob.executors import Submission, make_executor
from bob.executors.ray_cluster import Wanted
from bob.ledger import Ledger
from bob.options import parse
from bob.options.option import Said
from bob.references.files import ReferenceStore
from bob.reuse import Earlier
from bob.run import run_case
from bob.tracking import Tracker
from tests.stopped_cases import context, facts, go_on, stop

STATE: dict[str, Any] = {
    "none": None, "yes": True, "count": 2**70, "rate": 0.1, "lost": float("inf"), "text": "ü\n",
    "bytes": bytes(range(256)), "pair": (1, [2.5, ("x",)]), "by number": {0: "a", 5: {}},
    "half": torch.arange(6).to(torch.bfloat16).reshape(2, 3), "empty": torch.empty(0, 4),
    "scalar": torch.tensor(3.5, dtype=torch.float64), "flags": torch.tensor([True, False]),
    "turned": torch.arange(6.0).reshape(2, 3).T, "array": np.arange(4, dtype=np.uint32),
}  # fmt: skip


def in_training(progress: Progress) -> bool:
    return progress.phase == "train"


def file_of(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.case"
    write(path, STATE, {"bob": "1"}, unfinished=tmp_path / "new" / "part")
    state, found = read(path)
    assert found == {"bob": "1"}
    assert state.keys() == STATE.keys()
    for name, value in STATE.items():
        assert type(state[name]) is type(value), name
        if isinstance(value, torch.Tensor):
            assert state[name].dtype == value.dtype
            assert torch.equal(state[name], value)
        elif isinstance(value, np.ndarray):
            assert state[name].dtype == value.dtype
            assert np.array_equal(state[name], value)
        else:
            assert state[name] == value
    assert list(path.parent.iterdir()) == [path]


def test_code_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "state.case"
    with pytest.raises(TypeError, match="is no plain data"):
        write(path, {"function": print}, {}, unfinished=tmp_path / "part")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", [0, 8, 45, 60, -1])
def test_each_byte_that_is_another_is_found(tmp_path: Path, place: int) -> None:
    path = tmp_path / "state.case"
    write(path, STATE, {}, unfinished=tmp_path / "part")
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(Damaged):
        read(path)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(Damaged):
        read(path)


def test_random_generators_go_back_to_where_they_stood() -> None:
    import random

    def draws() -> tuple[float, ...]:
        return random.random(), float(np.random.normal()), float(torch.rand(()))

    np.random.normal()  # half of a pair, which NumPy keeps
    before = Randomness.now()
    first = draws()
    Randomness.of(before.plain()).put()
    assert draws() == first


@pytest.mark.parametrize("kind", ["damaged", "empty", "of another version"])
def test_what_cannot_be_taken_up_is_told(
    tiny_case: Case, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = context(tmp_path)
    stop(tiny_case, how, in_training)
    path = file_of(tmp_path)
    if kind == "damaged":
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    elif kind == "empty":
        path.write_bytes(b"")
    else:
        monkeypatch.setattr("bob.run.steps.__version__", "99.0")
    result = run_case(tiny_case, replace(how, resume=True))
    (remark,) = [text for text in result.remarks if str(path) in text]
    words = {"damaged": "is damaged", "empty": "is damaged", "of another version": "and not 99.0"}
    assert words[kind] in remark
    assert remark.endswith("the case began anew")
    assert (
        facts(result)["metrics"]
        == facts(run_case(tiny_case, Context(accelerator="cpu")))["metrics"]
    )


@pytest.mark.parametrize("changes", [{"workers": 1}, {"precision": "bf16-mixed"}])
def test_other_settings_of_the_run_begin_anew(
    tiny_case: Case, tmp_path: Path, changes: dict[str, Any]
) -> None:
    stop(tiny_case, context(tmp_path), in_training)
    result = run_case(tiny_case, context(tmp_path, resume=True, **changes))
    assert any("the case began anew" in text for text in result.remarks)


def test_without_going_on_a_former_file_is_removed(tiny_case: Case, tmp_path: Path) -> None:
    how = context(tmp_path)
    stop(tiny_case, how, in_training)
    assert file_of(tmp_path)
    stop(tiny_case, how, lambda progress: progress.phase == "loaded")
    assert not list(tmp_path.iterdir())


def test_a_short_case_writes_nothing_by_default(tiny_case: Case, tmp_path: Path) -> None:
    seen: list[bool] = []

    def look(progress: Progress) -> None:
        seen.append(tmp_path.exists() and any(tmp_path.iterdir()))

    how = Context(accelerator="cpu", checkpoints=str(tmp_path))
    assert how.checkpoint_minutes == 5
    assert run_case(tiny_case, how, look).failure is None
    assert seen
    assert not any(seen)


def test_time_goes_by_between_two_writes(tmp_path: Path) -> None:
    remarks: list[str] = []
    checkpoint = CaseCheckpoint.open(
        tmp_path, "key", facts={}, minutes=0.2 / 60, resume=False, remarks=remarks
    )
    checkpoint.keep("value", {"n": 1})
    path = path_of(tmp_path, "key")
    assert checkpoint.step() == 0.0
    assert not path.exists()
    time.sleep(0.25)
    assert checkpoint.step() > 0
    first = path.stat().st_mtime_ns
    checkpoint.step()
    assert path.stat().st_mtime_ns == first
    time.sleep(0.25)
    checkpoint.step()
    assert path.stat().st_mtime_ns > first
    assert not remarks


def test_what_a_part_has_kept_goes_with_it(tmp_path: Path) -> None:
    def opened(*, resume: bool) -> CaseCheckpoint:
        return CaseCheckpoint.open(tmp_path, "key", facts={}, minutes=0, resume=resume, remarks=[])

    checkpoint = opened(resume=False)
    with checkpoint.part("first") as part:
        part.keep("inner", {"n": 1})
        checkpoint.step()
    again = opened(resume=True)
    assert again.found("inner") is None
    with again.part("first") as part:
        assert part.found("inner") == {"n": 1}
        assert part.found("inner") is None
    checkpoint.step()
    with opened(resume=True).part("first") as part:
        assert part.found("inner") is None


def test_a_full_disk_costs_the_checkpoint_and_not_the_case(tiny_case: Case, tmp_path: Path) -> None:
    whole = facts(run_case(tiny_case, Context(accelerator="cpu")))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        result = run_case(tiny_case, context(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, former)
    (remark,) = [text for text in result.remarks if "a checkpoint could not be written" in text]
    assert str(tmp_path) in remark
    assert "File too large" in remark
    assert not list(tmp_path.iterdir())
    assert facts(result)["metrics"] == whole["metrics"]


def test_the_former_file_stays_where_the_next_cannot_be_written(tmp_path: Path) -> None:
    remarks: list[str] = []
    checkpoint = CaseCheckpoint.open(
        tmp_path, "key", facts={}, minutes=0, resume=False, remarks=remarks
    )
    checkpoint.keep("value", {"n": 1})
    checkpoint.step()
    checkpoint.keep("value", {"n": object()})
    checkpoint.step()
    checkpoint.step()
    (remark,) = remarks
    assert "is no plain data" in remark
    assert "the last one from 2" in remark
    assert read(path_of(tmp_path, "key"))[0] == {"value": {"n": 1}}


def test_a_folder_that_cannot_be_made_costs_nothing(tiny_case: Case, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = run_case(tiny_case, context(tmp_path / "file" / "folder"))
    assert result.failure is None
    assert any("could not be written" in text for text in result.remarks)


def test_a_case_that_fails_by_itself_leaves_nothing(tiny_case: Case, tmp_path: Path) -> None:
    recipe = tiny_case.recipe.model_copy(update={"lr": 1e30})
    written: list[bool] = []
    result = run_case(
        replace(tiny_case, recipe=recipe),
        context(tmp_path),
        lambda progress: written.append(any(tmp_path.iterdir())),
    )
    assert result.failure is not None
    assert result.failure.kind == "nan-loss"
    assert any(written)
    assert not list(tmp_path.iterdir())


def test_what_a_dead_process_left_half_written_is_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left, other = (tmp_path / f".{key}-{dead.pid}.writing" for key in ("key", "another"))
    for path in (left, other, unfinished_path(tmp_path, "key")):
        path.touch()
    living = tmp_path / ".key-1.writing"
    living.touch()
    remove(tmp_path, "key")
    assert sorted(tmp_path.iterdir()) == sorted([other, living])
    remove(tmp_path / "nowhere", "key")
    remove(tmp_path, "")


@pytest.mark.parametrize("kept", [True, False])
def test_a_checkpoint_goes_when_its_result_is_kept(
    tracker: Tracker, tiny_case: Case, tmp_path: Path, kept: bool
) -> None:
    ledger = Ledger(tmp_path / "ledger")
    ledger.open_session("s", {})
    folder = tmp_path / "checkpoints"
    if not kept:
        (tmp_path / "ledger" / "gone").write_text("a file where the session's folder would be")
    evaluator = Evaluator(
        executor=make_executor("inline"),
        context=context(folder),
        store=ReferenceStore(tmp_path / "references"),
        tracker=tracker,
        ledger=ledger,
        session="s" if kept else "gone",
    )
    evaluation = evaluator.evaluate(tiny_case)
    assert evaluation.failure is None
    (result,) = evaluation.results
    assert path_of(folder, result.run_key).exists() is not kept
    assert bool(evaluator.keeper.unkept) is not kept
    (tmp_path / "ledger" / "gone").unlink(missing_ok=True)
    evaluator.close(cancel=False)
    assert not evaluator.keeper.unkept
    assert not list(folder.iterdir())


def test_a_checkpoint_goes_when_its_result_is_reused(
    tracker: Tracker, tiny_case: Case, tmp_path: Path
) -> None:
    """A result that only the store had room for is in the ledger again; its case does not run."""
    ledger, folder = Ledger(tmp_path / "ledger"), tmp_path / "checkpoints"
    for session in ("first", "second"):
        ledger.open_session(session, {})
        evaluator = Evaluator(
            executor=make_executor("inline"),
            context=context(folder),
            store=ReferenceStore(tmp_path / "references"),
            tracker=tracker,
            ledger=ledger,
            session=session,
            earlier=Earlier(ledger),
        )
        (result,) = evaluator.evaluate(tiny_case).results
        assert not list(folder.iterdir())
        path_of(folder, result.run_key).touch()  # as of a session that could not keep it
    assert len(list(ledger.entries())) == 1


@pytest.mark.parametrize(("text", "minutes"), [("5", 5.0), ("0.5", 0.5), ("0", 0.0), ("off", None)])
def test_how_often_is_said_in_minutes(text: str, minutes: float | None) -> None:
    assert parse.minutes_if_any(Said("--save-every", (text,), Path())) == minutes


@pytest.mark.parametrize("text", ["-1", "often", "nan", "inf"])
def test_other_words_for_it_are_refused(text: str) -> None:
    with pytest.raises(BobError, match=rf"--save-every '{text}': expected off, or a number"):
        parse.minutes_if_any(Said("--save-every", (text,), Path()))


@pytest.mark.parametrize("minutes", ["off", "0"])
def test_a_session_says_where_and_how_often(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, minutes: str
) -> None:
    import bob.executors.inline as inline

    contexts: list[Context] = []
    real = inline.run_case

    def noted(case: Case, context: Context, emit: Emit) -> Result:
        contexts.append(context)
        return real(case, context, emit)

    monkeypatch.setattr(inline, "run_case", noted)
    done = project.runpytest("--save-every", minutes, "-k", "coarse")
    assert done.ret == pytest.ExitCode.OK
    folder = project.path / "mlruns" / "checkpoints"
    (told,) = {(how.checkpoints, how.checkpoint_minutes, how.resume) for how in contexts}
    assert told == (("", 5.0, False) if minutes == "off" else (str(folder), 0.0, False))
    assert not folder.exists() if minutes == "off" else not list(folder.iterdir())


def test_a_file_that_was_removed_is_not_missed(tiny_case: Case, tmp_path: Path) -> None:
    how = context(tmp_path)
    stop(tiny_case, how, in_training)
    first, _ = go_on(tiny_case, how)
    remove(tmp_path, first.run_key)
    second = run_case(tiny_case, replace(how, resume=True))
    assert not any("went on" in text for text in second.remarks)
    assert facts(second)["metrics"] == facts(first)["metrics"]


def test_a_case_whose_node_was_lost_takes_its_checkpoint_up(tiny_case: Case) -> None:
    wanted = Wanted(Submission("ticket", tiny_case, Context(checkpoints="shared")))
    wanted.go_on()
    assert wanted.submission.context == Context(checkpoints="shared", resume=True)
    assert wanted.submission.case is tiny_case
