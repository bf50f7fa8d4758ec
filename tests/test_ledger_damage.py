"""Damage in a ledger is named, and the rest is read."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bob.artifacts.files import packed
from bob.case import (
    Case,
    Comparison,
    Status,
    Verdict,
)
from bob.cli.outcomes import outcome_table
from bob.errors import BobError
from bob.ledger import Judgement, Ledger
from bob.ledger.records import SCHEMA, entry_name
from tests.ledger_parts import ledger, recorded_of, result_of

__all__ = ["ledger"]


def damaged(ledger: Ledger) -> str:
    assert list(ledger.entries("s1")) == []
    return "\n".join(map(str, ledger.damaged))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("name", ["result.json", "arrays.npz", "files/picture.png"])
def test_a_truncated_entry_is_named_and_skipped(
    ledger: Ledger, tiny_case: Case, name: str, share: float
) -> None:
    folder = ledger.write(recorded_of(result_of(tiny_case)))
    path = folder / name
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert damaged(ledger).startswith(f"{folder}: {name}")


def test_a_newer_entry_is_named_and_skipped(ledger: Ledger, tiny_case: Case) -> None:
    path = ledger.write(recorded_of(result_of(tiny_case))) / "result.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"schema": SCHEMA + 1, "result": "in another form"}))
    assert f"of version {SCHEMA + 1}, and this bob reads {SCHEMA}" in damaged(ledger)


def test_a_case_that_would_be_another_today_is_named(ledger: Ledger, tiny_case: Case) -> None:
    path = ledger.write(recorded_of(result_of(tiny_case))) / "result.json"
    record = json.loads(path.read_text())
    record["case"]["recipe"]["epochs"] += 1
    del record["sha256"]
    path.write_text(json.dumps(record))
    assert tiny_case.id in damaged(ledger)


def test_a_protocol_that_is_gone_is_named(ledger: Ledger, tiny_case: Case) -> None:
    path = ledger.write(recorded_of(result_of(tiny_case))) / "result.json"
    text = path.read_text().replace('"task": "finetune"', '"task": "finetuna"')
    path.write_text(text.replace('"sha256"', '"formerly"'))
    assert "finetuna" in damaged(ledger)


def test_a_result_of_before_contributions_is_read(ledger: Ledger, tiny_case: Case) -> None:
    path = ledger.write(recorded_of(result_of(tiny_case, contributions=None))) / "result.json"
    record = json.loads(path.read_text())
    del record["result"]["contributions"], record["sha256"]
    path.write_text(json.dumps(record))
    (found,) = ledger.entries("s1")
    assert found.result.contributions is None
    assert found.result.outcomes is not None


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (None, "arrays.npz lacks contributions"),
        (np.ones(2), "contributions are float64 of shape (2,), not a number for each of 3 images"),
        (np.array([1.0, np.inf, 0.0]), "contributions are not finite"),
    ],
)
def test_damaged_contributions_are_named(
    ledger: Ledger, tiny_case: Case, values: NDArray[np.float64] | None, told: str
) -> None:
    path = ledger.write(recorded_of(result_of(tiny_case))) / "result.json"
    arrays = dict(np.load(path.with_name("arrays.npz")))
    del arrays["contributions"]
    if values is not None:
        arrays["contributions"] = values
    content = packed(arrays)
    path.with_name("arrays.npz").write_bytes(content)
    record = json.loads(path.read_text())
    record["files"]["arrays.npz"] = hashlib.sha256(content).hexdigest()
    del record["sha256"]
    path.write_text(json.dumps(record))
    assert told in damaged(ledger)


def test_arrays_that_would_fill_the_memory_are_named_and_skipped(
    ledger: Ledger, tiny_case: Case
) -> None:
    """Their digest is right: whoever made them made that too."""
    path = ledger.write(recorded_of(result_of(tiny_case))) / "result.json"
    with zipfile.ZipFile(path.with_name("arrays.npz"), "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(5):
            with archive.open(f"a{number}.npy", "w") as member:
                np.lib.format.write_array_header_1_0(
                    member, {"descr": "|u1", "fortran_order": False, "shape": (2**28,)}
                )
                for _ in range(2**8):
                    member.write(bytes(2**20))
    content = path.with_name("arrays.npz").read_bytes()
    assert len(content) < 2**21
    bend(path, "files", "arrays.npz", to=hashlib.sha256(content).hexdigest())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = damaged(ledger)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
    assert "unpacked arrays.npz has 1.3 GB; more than 1.0 GB are not read; move the entry" in told
    with pytest.raises(BobError, match=r"is not a file of outcomes \(unpacked arrays.npz has 1.3"):
        outcome_table(path.parent)


@pytest.mark.parametrize("key", ["metrics", "weights_digest", "run_key"])
def test_a_changed_result_is_named_and_skipped(ledger: Ledger, tiny_case: Case, key: str) -> None:
    path = ledger.write(recorded_of(result_of(tiny_case))) / "result.json"
    record = json.loads(path.read_text())
    record["result"][key] = {"top1": 0.99} if key == "metrics" else "0" * 12
    path.write_text(json.dumps(record))
    assert "result.json is not as it was written; move it away" in damaged(ledger)


def test_results_without_their_session_are_named(ledger: Ledger, tiny_case: Case) -> None:
    ledger.write(recorded_of(result_of(tiny_case)))
    (ledger.root / "s1" / "session.json").unlink()
    fresh = Ledger(ledger.root)
    assert fresh.sessions() == []
    assert [str(damage) for damage in fresh.damaged] == [
        f"{ledger.root / 's1'}: has results and no session.json; put that back"
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_session_of_somebody_else_is_named(tiny_case: Case) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        ledger = Ledger(root)
        for session in ("s1", "s2"):
            ledger.open_session(session, {"a": "b"})
            ledger.write(recorded_of(result_of(tiny_case), session=session))
        root.chmod(0o755)
        (root / "s1").chmod(0o700)
        os.seteuid(65534)
        try:
            fresh = Ledger(root)
            assert fresh.sessions() == ["s2"]
            (damage,) = fresh.damaged
        finally:
            os.seteuid(0)
        assert str(damage) == f"{root / 's1'}: cannot be read (Permission denied)"


def test_damage_leaves_the_others(ledger: Ledger, tiny_case: Case) -> None:
    ledger.write(recorded_of(result_of(tiny_case)))
    other = tiny_case.with_seed(1)
    path = ledger.write(recorded_of(result_of(other), entry=entry_name(other, "check")))
    (path / "result.json").write_text("{")
    assert [recorded.result.case.seed for recorded in ledger.entries()] == [0]
    assert len(ledger.damaged) == 1


def bend(path: Path, *keys: str | int, to: object) -> None:
    """Put something else in a place of a JSON file, or take it out where it is ``...``."""
    record = json.loads(path.read_text())
    inner = record
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    if to is ...:
        del inner[keys[-1]]
    path.write_text(json.dumps(record))


SUMMARY = {
    "status": "FINISHED", "table": "| a |", "counts": {"pass": 1}, "further": {"board.md": "b"},
    "rows": [
        {
            "backbone": "b", "task": "knn", "dataset": "d", "metric": "top1", "score": "nan",
            "failure": None, "status": "pass", "reason": "", "unchanged": False, "runs": [],
            "bands": {"top1": {"value": 0.5, "low": "-inf", "high": 1, "reference": 0.5}},
        },
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "to"),
    [
        (("rows",), 3),
        (("rows",), ["a"]),
        (("rows", 0, "score"), [1]),
        (("rows", 0, "score"), 10**400),
        (("rows", 0, "status"), "odd"),
        (("rows", 0, "bands"), None),
        (("rows", 0, "bands", "top1"), 3),
        (("rows", 0, "bands", "top1", "low"), "soon"),
        (("rows", 0, "dataset"), 1),
        (("rows", 0, "unchanged"), "no"),
        (("table",), ...),
        (("table",), ["a"]),
        (("status",), "RUNNING"),
        (("status",), {}),
        (("counts",), {"pass": "1"}),
        (("counts",), {"pass": 10**400}),
        (("further",), {"../up.md": "text"}),
        (("further",), {"board.md": 3}),
        (("further",), {"board.md": "\ud800"}),
    ],
)
def test_a_bent_summary_is_named(ledger: Ledger, keys: tuple[str | int, ...], to: object) -> None:
    ledger.write_summary("s1", SUMMARY)
    assert ledger.summary("s1") == {"schema": SCHEMA, **SUMMARY}
    path = ledger.root / "s1" / "summary.json"
    bend(path, *keys, to=to)
    assert ledger.summary("s1") is None
    (damage,) = ledger.damaged
    assert str(damage).startswith(f"{path}: is not a summary (")
    assert str(damage).endswith("); move it away")


def test_a_summary_of_an_earlier_version_is_read(ledger: Ledger) -> None:
    ledger.write_summary("s1", SUMMARY)
    path = ledger.root / "s1" / "summary.json"
    bend(path, "further", to=...)
    bend(path, "rows", 0, "unchanged", to=...)
    assert ledger.summary("s1") == json.loads(path.read_text())


@pytest.mark.parametrize(
    ("key", "to"),
    [
        ("facts", ...), ("facts", []), ("facts", ["a"]), ("facts", {"scale": 3}), ("time", ...),
        ("time", 5), ("time", "soon"), ("time", "0001-01-01T00:00:00"),
    ],
)  # fmt: skip
def test_a_bent_session_is_named_and_its_results_are_read(
    ledger: Ledger, tiny_case: Case, key: str, to: object
) -> None:
    ledger.open_session("s2", {"scale": "tiny"})
    for session in ("s1", "s2"):
        ledger.write(recorded_of(result_of(tiny_case), session=session))
    path = ledger.root / "s1" / "session.json"
    bend(path, key, to=to)
    assert sorted(ledger.sessions()) == ["s1", "s2"]
    assert {entry.session: entry.facts for entry in ledger.entries()} == {
        "s1": {}, "s2": {"scale": "tiny"},
    }  # fmt: skip
    (damage,) = ledger.damaged
    assert str(damage).startswith(f"{path}: tells of no session (")


@pytest.mark.parametrize(
    ("keys", "to"),
    [
        (("entries",), [{}]),
        (("entries",), {"a": 1}),
        (("entries",), "ab"),
        (("name",), 3),
        (("role",), ...),
        (("session",), []),
        (("verdict",), []),
        (("verdict", "scores"), [0.5]),
        (("verdict", "scores"), {"0": 10**400}),
        (("verdict", "scores"), {"0": [1]}),
        (("verdict", "reason"), None),
        (("verdict", "comparisons"), [{"metric": "top1", "status": "pass"}]),
        (("verdict", "comparisons", 0, "value"), {}),
        (("verdict", "comparisons", 0, "low"), "x"),
        (("verdict", "published"), 3),
        (("verdict", "stage"), "2"),
        (("verdict", "stale"), "yes"),
        (("verdict", "warnings"), "look"),
    ],
)
def test_a_bent_verdict_is_named_and_the_others_are_read(
    ledger: Ledger, keys: tuple[str | int, ...], to: object
) -> None:
    comparison = Comparison(
        metric="top1", value=0.5, low=0.4, high=0.6, reference=0.5, z=0.0, status=Status.PASS
    )
    verdict = Verdict(
        status=Status.PASS, reason="", scores={0: 0.5}, comparisons=(comparison,), origin="a file"
    )
    for name in ("bent", "sound"):
        ledger.write_verdict(
            Judgement(name=name, session="s1", entries=("a",), verdict=verdict, role="check")
        )
    path = ledger.root / "s1" / "verdicts" / "bent.json"
    bend(path, *keys, to=to)
    assert [found.name for found in ledger.verdicts("s1")] == ["sound"]
    (damage,) = ledger.damaged
    assert str(damage).startswith(f"{path}: is not a verdict (")


def test_a_number_too_large_for_a_result_is_named(ledger: Ledger, tiny_case: Case) -> None:
    path = ledger.write(recorded_of(result_of(tiny_case))) / "result.json"
    bend(path, "sha256", to=...)
    bend(path, "result", "metrics", "top1", to=10**400)
    assert "result.json is not a result (OverflowError" in damaged(ledger)
