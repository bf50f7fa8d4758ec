"""The ranking at the end of a real session, and from its ledger."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bob.ledger import Ledger, best_scores, units_of
from bob.references.gate import stages
from bob.report.ranking import rank
from bob.report.ranking_text import files, lines
from bob.report.sources import newest, scores_of_ledger
from bob.tracking import resolve_store
from bob.tracking.read import scores_of_store
from bob.tracking.writer import Writer
from tests.conftest import suite_of


def write_shapes(root: Path) -> None:
    """Filled and hollow squares of random grey in noise."""
    rng = np.random.default_rng(3)
    for name in ("filled", "hollow"):
        (root / name).mkdir(parents=True)
        for number in range(40):
            pixels = rng.integers(0, 200, (48, 48, 3)).astype(np.uint8)
            top, left = rng.integers(4, 14, 2)
            pixels[top : top + 28, left : left + 28] = rng.integers(140, 250)
            if name == "hollow":
                pixels[top + 5 : top + 23, left + 5 : left + 23] = rng.integers(0, 60)
            Image.fromarray(pixels).save(root / name / f"{number}.png")


@pytest.mark.slow
def test_a_session_on_own_photographs_ends_with_a_ranking(
    pytester: pytest.Pytester, shared_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    write_shapes(pytester.path / "my shapes")
    pytester.makeini(f"[pytest]\nbob_tracking_uri = {shared_store}\n")
    pytester.makepyfile(test_suite=suite_of("knn", "linear_probe"))
    keys = ("swin_micro_glyphs", "resnet_micro_glyphs", "vit_micro_random")
    chosen = [word for key in keys for word in ("--backbone", key)]
    result = pytester.runpytest("--dataset", "folder:my shapes,test=0.3", *chosen, "--workers", "0")
    assert result.ret in (0, 1)
    outcome = result.parseoutcomes()
    assert outcome.get("passed", 0) + outcome.get("failed", 0) == 6
    text = result.stdout.str()
    assert "= ranking =" in text
    ranking = text.split("= ranking =", 1)[1]
    for key in keys:
        assert key in ranking
    result.stdout.fnmatch_lines(
        ["rank  backbone *mean z  wins  settings  p to next", "*1 * 2 of 2 *", "",
         "backbone *knn/folder:my shapes top1 *linear_probe/folder:my shapes top1",
         "*_micro_* 0.* [[]0.*, *[]]*"]
    )  # fmt: skip
    session = text.split("MLflow: session ", 1)[1].split()[0]
    client = MlflowClient(shared_store)
    experiment = client.get_experiment_by_name("bob/smoke/sessions")
    assert experiment is not None
    (run,) = client.search_runs(
        [experiment.experiment_id], filter_string=f"tags.`bob.session` = '{session}'"
    )
    path = Path(client.download_artifacts(run.info.run_id, "ranking.csv"))
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    assert {row["backbone"] for row in rows} == set(keys)
    assert len(rows) == 6
    assert "| rank | backbone |" in Path(
        client.download_artifacts(run.info.run_id, "ranking.md")
    ).read_text(encoding="utf-8")
    page = Path(client.download_artifacts(run.info.run_id, "board.html")).read_text("utf-8")
    assert all(f'data-backbone="{key}"' in page for key in keys)


def test_sessions_without_a_choice_have_no_ranking(project: pytest.Pytester) -> None:
    result = project.runpytest()
    result.stdout.no_fnmatch_line("*= ranking =*")
    assert "pixels_fine" in result.stdout.str()


BROKEN = """
from bob.catalog import BackboneEntry

def pytest_bob_backbones(config):
    return [BackboneEntry(key="broken", family="pixels", scales=("tiny",),
                          source="bob.backbones.micro:no_such_function")]
"""


@pytest.mark.slow
def test_the_ledger_s_rows_rank_as_the_session_s(
    project: pytest.Pytester, empty_store: Callable[[Path], str]
) -> None:
    """Of references, of checks that failed and were measured anew, and of a case without score."""
    project.makeconftest(BROKEN)
    keys = ("pixels_coarse", "pixels_fine", "broken")
    chosen = [word for key in keys for word in ("--backbone", key)]
    uri = empty_store(project.path / "own.db")
    ledger = Ledger(project.path / "mlruns" / "ledger")
    # a check that fails runs more seeds, then those of its reference
    for bands, runs in (("all", 4), ("failed", 4 + stages(2).extra + 2)):
        done = project.runpytest(*chosen, "--seeds", "2", "--bands", bands, "--tracking-uri", uri)
        name = ledger.sessions()[-1]
        summary = ledger.summary(name)
        assert summary is not None
        rows = newest(best_scores(scores_of_ledger(ledger, session=name)))
        assert len(rows) == runs
        units = units_of(ledger.entries(name))
        assert units.keys() == {row.run for row in rows}
        found = rank(rows, units=units, backbones=keys)
        assert found is not None
        assert found.unranked == ("broken",)
        written = {file: content.decode() for file, content in files(found).items()}
        further = dict(summary["further"])
        page, told = further.pop("board.html"), further.pop("board.md")
        assert written == further
        assert page.startswith("<!DOCTYPE html>")
        assert f"session {name}" in told
        assert "pixels_fine" in told
        for line in lines(found):
            assert line in done.outlines

        stored = list(scores_of_store(Writer(resolve_store(project.path, uri)), session=name))
        unpaired = rank(newest(best_scores(stored)))
        assert unpaired is not None
        assert unpaired == rank(rows)
        assert unpaired.standings[0].p_next != found.standings[0].p_next

        reference = project.path / "references" / "tiny" / "pixels_coarse.json"
        record = json.loads(reference.read_text())
        for values in record["settings"]["finetune/digits"]["values"].values():
            values["top1"] += 0.2
        reference.write_text(json.dumps(record))
