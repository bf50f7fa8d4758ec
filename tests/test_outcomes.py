"""``bob outcomes``: what a ledger entry or a file from MLflow says of each sample and query."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from bob.artifacts.files import arrays_of, packed
from bob.case import Case, Context, Contributions, ImageList, QueryOutcomes
from bob.cli import main
from bob.ledger import Ledger, Recorded
from bob.ledger.records import entry_name, now
from bob.run import run_case


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_an_entry_of_the_ledger(
    tiny_case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run_case(tiny_case, Context(accelerator="cpu", workers=0))
    ledger = Ledger(tmp_path)
    ledger.open_session("s", {})
    name = entry_name(tiny_case, "check")
    folder = ledger.write(
        Recorded(entry=name, session="s", role="check", time=now(), result=result)
    )
    assert main(["outcomes", str(folder)]) == 0
    table = rows(capsys.readouterr().out)
    assert len(table) == 597
    right = sum(int(row["correct"]) for row in table)
    assert right / 597 == pytest.approx(result.metrics["top1"])
    for row in table:
        shares = [float(row[f"probability_{place}"]) for place in range(1, 6)]
        assert shares == sorted(shares, reverse=True)
        if row["correct"] == "1":
            assert float(row["target_probability"]) == pytest.approx(shares[0], abs=1e-4)
    file = tmp_path / "o.npz"
    assert result.outcomes is not None
    file.write_bytes(packed(arrays_of(result.outcomes)))
    target = tmp_path / "o.csv"
    assert main(["outcomes", str(file), "--csv", str(target)]) == 0
    assert rows(target.read_text()) == table
    assert main(["outcomes", str(folder.with_name(name.replace("finetune", "finetume")))]) == 2
    assert f"Did you mean '{name}'" in capsys.readouterr().err


def test_queries_and_what_is_no_file_of_outcomes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queries = QueryOutcomes(
        average_precisions=np.array([0.5, np.nan]), first_ranks=np.array([2, 0])
    )
    (tmp_path / "queries.npz").write_bytes(packed(arrays_of(queries)))
    assert main(["outcomes", str(tmp_path / "queries.npz")]) == 0
    table = rows(capsys.readouterr().out)
    assert [row["first_rank"] for row in table] == ["2", "0"]
    given = Contributions(values=np.array([0.5, 1.0]), lists=(ImageList(count=2, digest="d"),))
    (tmp_path / "contributions.npz").write_bytes(packed(arrays_of(given)))
    assert main(["outcomes", str(tmp_path / "contributions.npz")]) == 0
    table = rows(capsys.readouterr().out)
    assert [row["contribution"] for row in table] == ["0.5", "1"]
    (tmp_path / "cut.npz").write_bytes((tmp_path / "queries.npz").read_bytes()[:80])
    assert main(["outcomes", str(tmp_path / "cut.npz")]) == 2
    assert "is not a file of outcomes" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["outcomes", str(tmp_path / "empty")]) == 2
    assert "holds no outcomes" in capsys.readouterr().err
