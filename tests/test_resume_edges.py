"""What ``--resume`` meets that is damaged, foreign, half done, or only looks the same."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bob.case import Case, run_key
from bob.catalog import Catalog
from bob.ledger import Ledger
from bob.ledger.records import Recorded, entry_name
from bob.plan import Plan, Selection
from bob.reuse import Earlier, State
from bob.tracking import Destination
from bob.tracking.pulling import StoreResults
from bob.tracking.writer import Writer
from tests.ledger_parts import assert_same, result_of
from tests.replay_parts import Outcome, Replay

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def recorded(outcome: Outcome) -> Recorded:
    """A real result of the tiny case."""
    return outcome.recorded[0]


@pytest.fixture
def ledger(tmp_path: Path, recorded: Recorded) -> Ledger:
    """A ledger that holds it."""
    made = Ledger(tmp_path / "own" / "ledger")
    made.open_session(recorded.session, {})
    made.write(recorded)
    return made


def of_case(recorded: Recorded, case: Case) -> Recorded:
    """A result as if it were of another case, with the run key that it would have."""
    result = recorded.result
    key = run_key(case, weights=result.weights_digest, data=result.data_digest, factory="")
    return replace(
        recorded,
        entry=entry_name(case, "check"),
        result=replace(result, case=case, run_key=key),
    )


def rewrite(path: Path, change: Change) -> None:
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def without(*names: str) -> Change:
    def change(record: dict[str, Any]) -> None:
        inner = record
        for name in names[:-1]:
            inner = inner[name]
        del inner[names[-1]]

    return change


def put(value: object, *names: str) -> Change:
    def change(record: dict[str, Any]) -> None:
        inner = record
        for name in names[:-1]:
            inner = inner[name]
        inner[names[-1]] = value

    return change


ODD = {
    "no run key": without("result", "run_key"),
    "no digest of weights": without("result", "weights_digest"),
    "a failure in words": put("it broke", "result", "failure"),
    "files as a list": put(["arrays.npz"], "files"),
    "a curve of lists": put([[1, [0.5]]], "curve"),
    "a run key that is a list": put(["a"], "result", "run_key"),
    "environment of numbers": put([1], "result", "environment"),
    "a time that is a number": put(5, "time"),
    "metrics as a list": put([0.5], "result", "metrics"),
    "another session": put("elsewhere", "session"),
    "another entry": put("elsewhere", "entry"),
    "another role": put("reference", "role"),
}


@pytest.mark.parametrize("what", ODD)
def test_an_entry_of_an_odd_form_is_named_and_its_case_runs(
    ledger: Ledger, recorded: Recorded, what: str
) -> None:
    rewrite(next(ledger.root.glob("*/*/result.json")), ODD[what])
    earlier = Earlier(ledger)
    assert earlier(recorded.result.case, "check").recorded is None
    assert [recorded.entry in str(damage) for damage in earlier.index.damaged] == [True]


@pytest.fixture
def elsewhere(local_store: Destination, outcome: Outcome) -> Writer:
    """A store that has two results which no ledger has any more."""
    Replay(local_store, outcome).whole()
    shutil.rmtree(local_store.ledger)
    return Writer(local_store)


def tamper(writer: Writer, change: Callable[[Path], None], name: str = "ledger.json") -> None:
    """Change a file of every run of a store."""
    for folder in (writer.destination.artifacts or Path()).rglob(name):
        change(folder)


def brought(writer: Writer, root: Path, case: Case) -> tuple[Earlier, StoreResults]:
    results = StoreResults(writer, Ledger(root))
    earlier = Earlier(results.ledger, elsewhere=results)
    earlier(case, "check")
    return earlier, results


TRICKS: Mapping[str, Change] = {
    "session": put("../../victim", "session"),
    "absolute": put("/tmp/bob-victim", "session"),
    "the ledger itself": put(".", "session"),
    "empty session": put("", "session"),
    "entry": put("../../victim", "entry"),
    "verdicts": put("verdicts", "entry"),
    "number": put(7, "entry"),
    "another case's entry": put("finetune-other-s0-check-12345678", "entry"),
    "session as a list": put(["a"], "session"),
    "role": put("reference", "role"),
    "time": put(5, "time"),
    "version": put(5, "version"),
    **{f"odd: {what}": change for what, change in ODD.items() if what != "files as a list"},
}


@pytest.mark.parametrize("what", TRICKS)
def test_what_a_store_says_is_written_nowhere_else(
    elsewhere: Writer, tmp_path: Path, recorded: Recorded, what: str
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "thesis.tex").write_text("years of work")
    tamper(elsewhere, lambda path: rewrite(path, TRICKS[what]))
    before = {path for path in tmp_path.rglob("*") if "artifacts" not in path.parts}
    earlier, results = brought(elsewhere, tmp_path / "own" / "ledger", recorded.result.case)
    assert (victim / "thesis.tex").read_text() == "years of work"
    after = {path for path in tmp_path.rglob("*") if "artifacts" not in path.parts}
    assert after == before
    assert len(results.damaged) == 1
    assert earlier.problems == []


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"no archive", b"\x93NUMPY"])
def test_a_damaged_file_of_a_run_costs_that_run_alone(
    elsewhere: Writer, tmp_path: Path, recorded: Recorded, content: bytes
) -> None:
    tamper(elsewhere, lambda path: path.write_bytes(content) and None, "outcomes.npz")
    earlier, results = brought(elsewhere, tmp_path / "own" / "ledger", recorded.result.case)
    assert len(results.damaged) == 1
    assert earlier.problems == []


def swollen(path: Path) -> None:
    """Make an archive of little that unpacks to more than a gigabyte."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("right.npy", "w") as member,
    ):
        for _ in range(17):
            member.write(bytes(2**26))


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("ledger.json", lambda path: os.truncate(path, 3 * 2**30), "ledger.json has 3.0 GB"),
        ("outcomes.npz", lambda path: os.truncate(path, 3 * 2**30), "outcomes.npz has 3.0 GB"),
        ("outcomes.npz", swollen, "unpacked outcomes.npz has 1.1 GB"),
    ],
)
def test_a_file_of_gigabytes_is_not_read(
    elsewhere: Writer,
    tmp_path: Path,
    recorded: Recorded,
    name: str,
    change: Callable[[Path], None],
    told: str,
) -> None:
    tamper(elsewhere, change, name)
    earlier, results = brought(elsewhere, tmp_path / "own" / "ledger", recorded.result.case)
    (damage,) = results.damaged
    assert told in str(damage)
    assert "are not read" in str(damage)
    assert earlier.problems == []


def test_arrays_that_are_damaged_are_taken_from_the_store(
    local_store: Destination, outcome: Outcome
) -> None:
    replay = Replay(local_store, outcome).whole()
    case = outcome.recorded[0].result.case
    ledger = Ledger(local_store.ledger)
    for path in ledger.root.rglob("arrays.npz"):
        path.write_bytes(b"cut off")
    earlier = Earlier(ledger, elsewhere=StoreResults(Writer(local_store), ledger))
    standing = earlier(case, "check")
    assert standing.recorded is not None
    assert standing.recorded.session == replay.session


def test_another_scale_is_not_a_change(ledger: Ledger, recorded: Recorded) -> None:
    case = replace(recorded.result.case, scale="wide")
    assert Earlier(ledger)(case, "check").state is State.MISSING


def test_a_name_that_reads_alike_in_a_file_is_not_a_change(
    ledger: Ledger, recorded: Recorded
) -> None:
    case = recorded.result.case

    def named(key: str) -> Case:
        return replace(case, backbone=case.backbone.model_copy(update={"key": key}))

    first = named("a/b")
    ledger.write(of_case(recorded, first))
    assert Earlier(ledger)(named("a|b"), "check").state is State.MISSING


def test_weights_of_a_file_behind_an_argument_are_loaded_and_compared(
    catalog: Catalog, ledger: Ledger, recorded: Recorded
) -> None:
    spec = "timm:resnet10t,pretrained=false,checkpoint_path=/somewhere/weights.pth"
    (case,) = Plan(catalog, Selection("tiny", (spec,))).cases("finetune")
    ledger.write(of_case(recorded, case))
    assert Earlier(ledger)(case, "check").state is State.LOOKED_AT


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_the_place_of_a_result_is_not_waited_for(
    ledger: Ledger, recorded: Recorded
) -> None:
    path = next(ledger.root.glob("*/*/result.json"))
    path.unlink()
    os.mkfifo(path)
    earlier = Earlier(ledger)
    assert earlier(recorded.result.case, "check").recorded is None
    assert ["a pipe" in str(damage) for damage in earlier.damaged] == [True]


def test_all_that_is_told_of_images_comes_back_from_the_store(
    local_store: Destination, outcome: Outcome, recorded: Recorded, tmp_path: Path
) -> None:
    everything = result_of(recorded.result.case)
    arrays = ("outcomes", "queries", "contributions", "detections")
    result = replace(recorded.result, **{name: getattr(everything, name) for name in arrays})
    whole = replace(outcome, recorded=(replace(recorded, result=result), *outcome.recorded[1:]))
    Replay(local_store, whole).whole()
    shutil.rmtree(local_store.ledger)
    earlier, _ = brought(Writer(local_store), tmp_path / "own", result.case)
    assert earlier.index.damaged == []
    (found,) = Ledger(tmp_path / "own").entries()
    assert_same(replace(found.result, files={}), replace(result, files={}))
