"""The board beside pandas and scipy, with incomplete rows, ties, single seeds and outcomes."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr

from benchmarks.ranking_power import cell_of
from bob.catalog import Catalog
from bob.cost.table import DEFAULT_GPU
from bob.cost.table import rows as throughputs
from bob.ledger import Score
from bob.report.board import Board, make_board, pareto, spearman
from bob.report.board_files import COLUMNS, csv_table, markdown_text, records, write_parquet
from bob.report.bootstrap import rank_intervals
from bob.report.cells import Cell
from bob.report.facts import facts_of, pretraining_millions
from tests.board_parts import facts, made_up


def board_of(rows: list[Score], **more: object) -> Board:
    return make_board(rows, scale="smoke", units={}, facts=facts(rows), **more)  # type: ignore[arg-type]


def frame_of(rows: list[Score]) -> pd.DataFrame:
    frame = pd.DataFrame([(r.backbone, r.task, r.setting, r.value) for r in rows],
                         columns=["backbone", "task", "setting", "value"])  # fmt: skip
    return frame.groupby(["backbone", "task", "setting"], as_index=False).mean()


def test_z_scores_and_order_are_those_of_pandas() -> None:
    rows = made_up(12, 14, seeds=3)
    board = board_of(rows)
    frame = frame_of(rows)
    by_setting = frame.groupby("setting")["value"]
    frame["z"] = (frame["value"] - by_setting.transform("mean")) / by_setting.transform(
        lambda values: values.std(ddof=0)
    )
    expected = frame.groupby("backbone")["z"].mean().sort_values(ascending=False)
    assert [row.facts.backbone for row in board.rows] == expected.index.tolist()
    assert [row.mean_z for row in board.rows] == pytest.approx(expected.tolist())
    by_task = frame.groupby(["backbone", "task"])["z"].mean()
    for row in board.rows:
        for task, value in row.by_task.items():
            assert value == pytest.approx(by_task[row.facts.backbone, task])


def test_correlations_are_scipys() -> None:
    rows = made_up(12, 14)
    board = board_of(rows)
    z = {task: [row.by_task[task] for row in board.rows] for task in board.tasks}
    assert len(board.correlations) == 7 * 6 // 2
    for entry in board.correlations:
        expected = spearmanr(z[entry.first], z[entry.second]).statistic
        assert entry.rho == pytest.approx(expected)
        assert entry.count == 12
    assert spearman([1, 2, 3], [1, 2, 3]) is None
    assert spearman([1, 1, 1, 1], [1, 2, 3, 4]) is None


def test_incomplete_rows_stand_apart() -> None:
    rows = made_up(10, 7, lacking=2)
    board = board_of(rows)
    assert len(board.rows) == 8
    assert [entry.facts.backbone for entry in board.incomplete] == ["backbone_008", "backbone_009"]
    assert board.incomplete[0].have == 6
    assert board.incomplete[0].lacking == ("finetune/data0",)
    complete = board_of([row for row in rows if row.backbone < "backbone_008"])
    assert [row.mean_z for row in board.rows] == [row.mean_z for row in complete.rows]
    text = markdown_text(board, title="t")
    assert "backbone_009 lacks finetune/data0: `pytest --pyargs suites --scale=smoke" in text
    alone = [row for row in rows if row.task == "finetune" or row.backbone >= "backbone_008"]
    assert not board_of(alone).rows  # nobody has all


def test_equal_backbones_share_a_group() -> None:
    rows = made_up(3, 6)
    twin = [replace(row, backbone="a_twin") for row in rows if row.backbone == "backbone_001"]
    board = board_of([*rows, *twin])
    by_name = {row.facts.backbone: row for row in board.rows}
    assert by_name["a_twin"].rank == by_name["backbone_001"].rank
    assert by_name["a_twin"].group == by_name["backbone_001"].group
    groups = [row.group for row in board.rows]
    assert groups == sorted(groups)
    for place, row in enumerate(board.rows, start=1):
        assert row.low <= row.rank <= place <= row.high


def cells_of(levels: list[float], seeds: int, rng: np.random.Generator) -> dict[str, Cell]:
    hard = rng.random(800)
    return {
        f"b{index}": cell_of(
            np.stack([hard < level + 0.01 * rng.standard_normal() for _ in range(seeds)]).astype(
                float
            ),
            "data",
        )
        for index, level in enumerate(levels)
    }


def test_rank_intervals_hold_what_they_say() -> None:
    """Of backbones far apart the rank is sure; of equal ones every rank may be."""
    rng = np.random.default_rng(0)
    sure = rank_intervals({"s": cells_of([0.9, 0.7, 0.5], 3, rng)}, ["b0", "b1", "b2"])
    assert sure.overall == {"b0": (1, 1), "b1": (2, 2), "b2": (3, 3)}
    assert sure.by_setting["s"] == sure.overall
    held = 0
    for trial in range(40):
        levels = [0.70, 0.71, 0.72, 0.73]
        cells = {"s": cells_of(levels, 5, np.random.default_rng(trial))}
        found = rank_intervals(cells, [f"b{index}" for index in range(4)])
        held += sum(found.overall[f"b{index}"][0] <= 4 - index <= found.overall[f"b{index}"][1]
                    for index in range(4))  # fmt: skip
    assert held / 160 >= 0.93
    assert rank_intervals({}, ["a", "b"]).overall == {}


def test_the_same_images_move_all_backbones_together() -> None:
    rng = np.random.default_rng(1)
    cells = cells_of([0.75, 0.70], 1, rng)
    fixed = {key: replace(cell, seeded=False) for key, cell in cells.items()}
    together = rank_intervals({"s": fixed}, ["b0", "b1"])
    apart = {
        key: replace(cell, units=None, units_of="", image_error=0.05) for key, cell in fixed.items()
    }
    assert together.overall == {"b0": (1, 1), "b1": (2, 2)}  # nested outcomes
    assert rank_intervals({"s": apart}, ["b0", "b1"]).overall == {"b0": (1, 2), "b1": (1, 2)}


def test_the_front_is_what_no_other_beats() -> None:
    points = [(3.0, 0.5), (1.0, 0.2), (2.0, 0.6), (2.0, 0.1), (4.0, 0.9), (5.0, 0.9)]
    expected = [
        i for i, (x, y) in enumerate(points)
        if not any((a <= x and b >= y and (a, b) != (x, y)) for a, b in points)
    ]  # fmt: skip
    assert sorted(pareto(points)) == expected


def test_metrics_that_disagree_are_told() -> None:
    rows = made_up(4, 1)
    losses = [
        replace(row, metric="test_loss", unit="positive", is_score=False, higher_is_better=False,
                value=row.value)
        for row in rows
    ]  # fmt: skip
    (told,) = board_of(rows, others=losses).disagreements
    best = max(rows, key=lambda row: row.value).backbone
    worst = min(rows, key=lambda row: row.value).backbone
    assert told == f"finetune/data0: by top1 the best is {best}, by test_loss it is {worst}."
    assert not board_of(rows, others=[replace(row, metric="train_loss") for row in losses]
                        ).disagreements  # fmt: skip


def test_picks_answer_the_papers_questions() -> None:
    board = board_of(made_up(12, 7))
    questions = {pick.question: pick.backbone for pick in board.picks}
    assert questions["Best of all"] == board.rows[0].facts.backbone
    small = [row for row in board.rows if row.facts.parameters_m < 30]
    assert questions["Best below 30 M parameters"] == small[0].facts.backbone
    median = np.median([row.seconds for row in board.rows])
    fast = [row for row in board.rows if row.seconds <= median]
    assert questions["Best of the half that ran fastest"] == fast[0].facts.backbone


def test_tables_hold_every_score(tmp_path: Path) -> None:
    rows = made_up(5, 4, seeds=2, lacking=1)
    board = board_of(rows)
    found = list(csv.DictReader(io.StringIO(csv_table(board).decode())))
    assert len(found) == len(records(board)) == 5 * 4 - 1
    assert tuple(found[0]) == COLUMNS
    write_parquet(board, tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet").to_pylist()
    assert table == records(board)
    means = frame_of(rows).set_index(["backbone", "setting"])["value"]
    for record in table:
        assert record["score"] == pytest.approx(means[record["backbone"], record["setting"]])
    assert {record["rank"] for record in table if record["backbone"] == "backbone_004"} == {None}


def test_facts_come_from_the_catalog(catalog: Catalog) -> None:
    rows = [replace(made_up(1, 1)[0], backbone=key, pretraining="CLIP, LAION-2B")
            for key in ("resnet50_tv_in1k", "mine")]  # fmt: skip
    found = facts_of(catalog, rows)
    assert found["resnet50_tv_in1k"].parameters_m == 23.51
    assert found["resnet50_tv_in1k"].pretraining_m == 1.28
    published = next(
        row for row in throughputs()
        if (row.gpu, row.mode, row.architecture, row.image_size)
        == (DEFAULT_GPU, "infer", "resnet50", 224)
    )  # fmt: skip
    assert found["resnet50_tv_in1k"].images_per_second == published.images_per_second
    assert found["mine"].images_per_second == 0.0
    assert (found["mine"].parameters_m, found["mine"].pretraining_m) == (0.0, 2320.0)
    assert pretraining_millions("FCMAE + supervised, IN-1k -> IN-22k -> IN-1k") == 14.2
    assert pretraining_millions("unknown") == 0.0
