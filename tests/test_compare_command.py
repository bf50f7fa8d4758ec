"""``bob compare`` on ledgers of this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bob.case import Status, Verdict
from bob.catalog import Catalog
from bob.cli import main
from bob.cli.gathering import COMMIT
from bob.ledger import Judgement, Ledger
from bob.report.sources import recorded_of_session
from tests.ranking_parts import evaluation_of

OLD, NEW = "a" * 40, "b" * 40
Right = Sequence[Sequence[bool]]


def right(images: int, share: float, seed: int = 0) -> list[bool]:
    found: list[bool] = (np.random.default_rng(seed).random(images) < share).tolist()
    return found


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """The ledger of a project with no session yet; the working directory is the project."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Ledger(tmp_path / "mlruns" / "ledger")


def ran(
    ledger: Ledger, catalog: Catalog, session: str, day: int, commit: str = OLD,
    **seeds: tuple[str, Right],
) -> None:  # fmt: skip
    """A session of backbones, each of a task and the images that each seed got right."""
    began = f"2026-01-{day:02d}T00:00:00+00:00"
    ledger.open_session(session, {COMMIT: commit}, time=began)
    for name, (task, outcomes) in seeds.items():
        evaluation = evaluation_of(catalog, name, task, *outcomes)
        for number, recorded in enumerate(recorded_of_session([evaluation])):
            case = recorded.result.case
            entry = f"{task}-{case.name}-s{case.seed}-check-{'0' * 8}"
            result = replace(recorded.result, data_digest="data", weights_digest=name)
            time = f"2026-01-{day:02d}T00:00:{number:02d}+00:00"
            ledger.write(replace(recorded, entry=entry, session=session, time=time, result=result))


@pytest.fixture
def two_sessions(ledger: Ledger, catalog: Catalog) -> Ledger:
    """Session ``first`` at the old commit; ``second`` at the new one, in which ``b`` is worse."""
    good = right(597, 0.9)
    bad = [kept and not spoilt for kept, spoilt in zip(good, right(597, 0.1, 1), strict=True)]
    ran(ledger, catalog, "first", 1, a=("knn", [good]), b=("knn", [good]), c=("knn", [good]))
    ran(ledger, catalog, "second", 2, NEW, a=("knn", [good]), b=("knn", [bad]))
    return ledger


def test_two_backbones(two_sessions: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "a", "b"]) == 1
    told = capsys.readouterr().out
    assert "knn/digits top1" in told
    assert "1 setting: 1 worse." in told
    assert main(["compare", "b", "a"]) == 0
    assert "1 setting: 1 better." in capsys.readouterr().out
    assert main(["compare", "a@first", "b@first"]) == 0
    assert "1 identical" in capsys.readouterr().out


def test_sessions_and_commits(two_sessions: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    for before, after in (("first", "second"), (OLD[:9], NEW[:9]), ("fir", NEW)):
        assert main(["compare", before, after]) == 1
        told = capsys.readouterr().out
        assert "a knn/digits top1" in told
        assert "1 worse, 1 identical" in told
        assert "Only A has c knn/digits top1." in told
    assert main(["compare", "first", "second", "-k", "knn and a-digits"]) == 0
    assert main(["compare", "first", "second", "-k", "a-digits", "--strict"]) == 0
    capsys.readouterr()
    assert main(["compare", "first", "second", "-k", "not b-digits", "--strict"]) == 3
    assert "Only A has c" in capsys.readouterr().out


def test_bent_files_are_named_and_what_is_whole_is_compared(
    two_sessions: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = Verdict(status=Status.PASS, reason="")
    for name in ("bent", "sound"):
        two_sessions.write_verdict(
            Judgement(name=name, session="first", entries=("x",), verdict=verdict)
        )
    bent = two_sessions.root / "first" / "verdicts" / "bent.json"
    bent.write_text(json.dumps({**json.loads(bent.read_text()), "entries": [{}]}))
    session = two_sessions.root / "second" / "session.json"
    session.write_text(json.dumps({"schema": 1, "facts": [], "time": "2026-01-02T00:00:00"}))
    assert main(["compare", "a@second", "b@second"]) == 1
    told = capsys.readouterr()
    assert "1 setting: 1 worse." in told.out
    assert f"bob: left out: {bent}: is not a verdict" in told.err
    assert f"bob: left out: {session}: tells of no session" in told.err
    two_sessions.write_summary(
        "second", {"status": "FINISHED", "table": "", "rows": [], "counts": {}}
    )
    assert main(["summary", "second"]) == 5
    assert "nothing ran" in capsys.readouterr().out


def test_other_folders_and_shapes(
    two_sessions: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mlruns" / "ledger").rename(tmp_path / "kept")
    assert main(["compare", "kept/first", "kept/second"]) == 1
    assert main(["compare", "a", "b", "--from", "kept", "--from", "references"]) == 1
    capsys.readouterr()
    assert main(["compare", "a", "b", "--from=kept", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["settings"][0]["answer"] == "worse"
    assert found["settings"][0]["adjusted"] < 0.05
    assert found["alpha"] == 0.05
    assert main(["compare", "a", "b", "--from=kept", "--markdown"]) == 1
    assert "| knn/digits top1 |" in capsys.readouterr().out


def test_other_data_and_protocols_are_set_apart(
    ledger: Ledger, catalog: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    good = right(597, 0.9)
    ran(ledger, catalog, "first", 1, a=("knn", [good]), b=("linear_probe", [good]))
    (recorded,) = [entry for entry in ledger.entries() if entry.result.case.task == "knn"]
    ledger.open_session("moved", {}, time="2026-01-03T00:00:00+00:00")
    result = replace(recorded.result, data_digest="other data")
    ledger.write(replace(recorded, session="moved", result=result))
    assert main(["compare", "first", "moved"]) == 2
    assert "a knn/digits top1: they were measured on different data" in capsys.readouterr().err


def test_what_cannot_be_found_is_told(
    two_sessions: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, told in (
        (["a", "bb"], "'bb' is no backbone, session, commit or source"),
        (["a", "b", "--metric", "mask_ap"], "that has mask_ap at scale"),
        (["firzt", "second"], "Did you mean 'first'"),
        (["a@first", "d@second"], "d@second: second has no score of 'd'"),
        (["a", "b", "--from", "nowhere"], "--from nowhere: there is no such folder"),
        (["a", "b", "--from", "legder"], "Did you mean 'ledger'"),
        (["a", "b", "-k", "retrieval"], "No setting was measured for both a and b"),
        (["c", "second"], "No setting was measured for both c and second"),
        (["a", "b", "--scale", "full"], "has scores at scale 'full'"),
        (["a", "b", "--metric", "top_1"], "Did you mean 'top1'"),
    ):
        assert main(["compare", *words]) == 2
        assert told in capsys.readouterr().err, words
    for words in (["a", "b", "--delta", "3"], ["a", "b", "--alpha", "0"], ["a"]):
        with pytest.raises(SystemExit) as ended:
            main(["compare", *words])
        assert ended.value.code == 2


def test_an_ambiguous_session_is_told(
    ledger: Ledger, catalog: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    for day, session in enumerate(("12ab", "12cd"), start=1):
        ran(ledger, catalog, session, day, a=("knn", [right(50, 0.9)]))
    assert main(["compare", "12", "12ab"]) == 2
    assert "12: 2 sessions begin so" in capsys.readouterr().err


def test_seeds_of_other_weights_are_not_mixed(
    ledger: Ledger, catalog: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(ledger, catalog, "old", 1, a=("finetune", [right(597, 0.5, n) for n in range(3)]))
    ran(ledger, catalog, "new", 2, b=("finetune", [right(597, 0.9, n) for n in range(3)]))
    (recorded, *_) = [entry for entry in ledger.entries("old") if entry.result.case.seed == 0]
    ledger.open_session("later", {}, time="2026-01-03T00:00:00+00:00")
    result = replace(recorded.result, weights_digest="others")
    ledger.write(
        replace(recorded, session="later", time="2026-01-03T00:00:00+00:00", result=result)
    )
    assert main(["compare", "a", "b"]) == 0
    assert "trained on one seed" in capsys.readouterr().out
    assert main(["compare", "a@old", "b"]) == 0
    assert "1 better" in capsys.readouterr().out


def test_outcomes_belong_to_the_session_that_ran_them(
    ledger: Ledger, catalog: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    """One run key, run again at another commit, may come to something else."""
    good = right(597, 0.9)
    bad = [right and place >= 40 for place, right in enumerate(good)]
    other = good[::-1]
    for day, (session, outcomes) in enumerate(
        {"one": good, "two": bad, "three": other}.items(), start=1
    ):
        ran(ledger, catalog, session, day, a=("knn", [outcomes]))
    keys = {entry.result.run_key for entry in ledger.entries()}
    assert len(keys) == 1
    assert main(["compare", "one", "two"]) == 1
    assert "1 worse" in capsys.readouterr().out
    assert main(["compare", "one", "three"]) == 0  # the same score on other images
    assert "1 undecided" in capsys.readouterr().out


def test_a_score_that_is_no_number_is_worse_than_one(
    ledger: Ledger, catalog: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    good = right(597, 0.9)
    ran(ledger, catalog, "first", 1, a=("knn", [good]), b=("knn", [good]))
    (recorded,) = [row for row in ledger.entries() if row.result.case.backbone.key == "a"]
    ledger.open_session("second", {}, time="2026-01-02T00:00:00+00:00")
    metrics = {**recorded.result.metrics, "top1": float("nan")}
    later = replace(recorded, session="second", time="2026-01-02T00:00:00+00:00")
    ledger.write(replace(later, result=replace(recorded.result, metrics=metrics)))
    assert main(["compare", "first", "second"]) == 1
    told = capsys.readouterr().out
    assert "B is broken: it has a score that is no number in a knn/digits top1." in told
    assert main(["compare", "first", "ledger"]) == 1  # an earlier score stands in for none
    assert main(["compare", "second", "first"]) == 2
    assert "a score of A is NaN or infinite" in capsys.readouterr().err
    assert main(["report", "-o", "-"]) == 0
    assert "nan" not in capsys.readouterr().out


def test_a_whole_name_is_a_session_though_another_begins_so(
    ledger: Ledger, catalog: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    for day, (session, commit) in enumerate((("12", "c" * 7 + "1"), ("12ab", "c" * 7 + "2")), 1):
        ran(ledger, catalog, session, day, commit, a=("knn", [right(50, 0.9)]))
    assert main(["compare", "12", "12ab"]) == 0
    assert main(["compare", "c" * 7, "12ab"]) == 2
    assert "2 commits begin so" in capsys.readouterr().err
    assert main(["compare", "", "12ab"]) == 2
    assert main(["report", "--from", "mlruns", "-o", "-", "-k", "knn"]) == 0


def test_the_verdict_is_the_newest_whatever_the_order_of_sources(
    ledger: Ledger, catalog: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for day, (session, status) in enumerate((("old", Status.FAIL), ("new", Status.PASS)), start=1):
        other = Ledger(tmp_path / session)
        ran(other, catalog, session, day, a=("knn", [right(50, 0.9)]), b=("knn", [right(50, 0.8)]))
        for entry in list(other.entries()):
            verdict = Verdict(status=status, reason=session)
            name = entry.result.case.backbone.key
            other.write_verdict(
                Judgement(name=name, session=session, entries=(entry.entry,), verdict=verdict)
            )
    for order in (["old", "new"], ["new", "old"]):
        sources = [word for name in order for word in ("--from", name)]
        assert main(["report", *sources, "-o", "x.csv"]) == 0
        assert "pass" in (tmp_path / "x.csv").read_text()
        assert "fail" not in (tmp_path / "x.csv").read_text()
