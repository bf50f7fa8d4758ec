"""The board as one HTML file that needs nothing else."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from bob import __version__
from bob.case import Status, Verdict
from bob.errors import some
from bob.ledger.score import PUBLISHED, Score
from bob.report.board import Board, Incomplete, between
from bob.report.cells import Cell
from bob.report.charts import charts, sparkline
from bob.report.comparison import Contrast
from bob.report.facts import Facts
from bob.report.history import History
from bob.report.sources import Drift

_MOST_DRAWN = 60
"""Histories without a change that are drawn at most."""

_MARKS = {Status.PASS: "✓", Status.FAIL: "✗", Status.INCONCLUSIVE: "?"}


@dataclass(frozen=True, kw_only=True)
class PretrainingPair:
    """Two weights of one architecture.

    Attributes:
        overall: How much better the second is over the settings that both have.
        settings: How many these are.
    """

    architecture: str
    before: str
    after: str
    overall: Contrast
    settings: int


def page(
    board: Board,
    *,
    title: str,
    subtitle: str,
    command: str = "",
    pretraining: Sequence[PretrainingPair] = (),
    history: Sequence[History] = (),
    drifts: Sequence[Drift] = (),
) -> str:
    """The HTML of a board.

    Args:
        board: What is shown.
        title: Its heading.
        subtitle: Where the scores come from.
        command: What wrote the page.
        pretraining: Weights of the same architecture, compared.
        history: Scores over sessions, the most urgent first.
        drifts: References that have moved since their anchors.
    """
    drawn = [entry for place, entry in enumerate(history) if entry.steps or place < _MOST_DRAWN]
    details: list[dict[str, Any]] = []
    tasks = [_task(board, task, details) for task in board.tasks]
    # whatever a name holds, it ends no script
    plain = json.dumps(details, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    return str(
        _template().render(
            board=board,
            title=title,
            subtitle=subtitle,
            command=command,
            version=__version__,
            day=datetime.now(tz=UTC).date().isoformat(),
            tasks=tasks,
            charts=charts(board),
            pretraining=pretraining,
            history=[(entry, sparkline(entry)) for entry in drawn],
            steps=[(entry, step) for entry in drawn for step in reversed(entry.steps)],
            drifts=drifts,
            unshown=len(history) - len(drawn),
            groups=Counter(row.group for row in board.rows),
            choices=_choices(board),
            single=_any(board, lambda cell: cell.seeded and cell.seeds == 1),
            bare=_any(board, lambda cell: cell.low is None),
            details=plain,
            attributes=_attributes,
            some=some,
            between=between,
            completing=lambda entry: completing(entry, board.scale),
            css=_asset("page.css"),
            js=_asset("page.js"),
        )
    )


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_asset("page.html.j2"))


def _asset(name: str) -> str:
    return (files(__name__) / name).read_text(encoding="utf-8")


def completing(entry: Incomplete, scale: str) -> str:
    """The command that runs what a backbone lacks."""
    tasks = sorted({name.split("/")[0] for name in entry.lacking})
    words = ["pytest", "--pyargs", "suites", f"--scale={scale}"]
    words += [f"--backbone={entry.facts.backbone}", "--resume", "-m", " or ".join(tasks)]
    return shlex.join(words)


def repeating(score: Score) -> str:
    """The command that runs one score again."""
    words = ["pytest", "--pyargs", "suites", f"--scale={score.scale}"]
    words += [f"--backbone={score.backbone}", "-k", f"test_{score.case_name}"]
    return shlex.join(words)


def _attributes(facts: Facts) -> str:
    values = {
        "backbone": facts.backbone, "family": facts.family, "licence": facts.licence,
        "pretraining": facts.pretraining, "parameters": f"{facts.parameters_m:g}",
    }  # fmt: skip
    return "".join(f' data-{name}="{escape(text)}"' for name, text in values.items())


def _choices(board: Board) -> list[tuple[str, list[str]]]:
    every = board.facts.values()
    return [
        (name, sorted({getattr(facts, name) for facts in every} - {""}))
        for name in ("family", "licence", "pretraining")
    ]


def _task(board: Board, task: str, details: list[dict[str, Any]]) -> dict[str, Any]:
    """A task's table; what its cells lead to is added to ``details``."""
    names = [name for name in board.settings if name.split("/")[0] == task]
    order = {row.facts.backbone: place for place, row in enumerate(board.rows)}
    backbones = sorted(
        {key for name in names for key in board.cells[name]},
        key=lambda key: (order.get(key, len(order)), key),
    )
    lines = []
    for key in backbones:
        cells = []
        for name in names:
            entry = board.cells[name].get(key)
            cells.append(None if entry is None else _cell(board, name, key, entry, details))
        lines.append({"facts": board.facts[key], "cells": cells})
    columns = [name.removeprefix(f"{task}/") for name in names]
    return {"name": task, "columns": columns, "lines": lines}


def _cell(
    board: Board, name: str, key: str, cell: Cell, details: list[dict[str, Any]]
) -> dict[str, Any]:
    score = board.newest[name][key]
    verdict = board.verdicts.get((key, score.setting))
    rows: list[tuple[str, str, int]] = [("score", f"{cell.value:.4f}", 0)]
    if cell.low is not None and cell.high is not None:
        rows.append(("95 % interval", f"{cell.low:.4f} to {cell.high:.4f}", 0))
    seeds = ", ".join(f"{seed}: {value:.4f}" for seed, value in list(cell.by_seed.items())[:12])
    rows.append(("seeds", seeds, 0))
    ranks = board.setting_ranks.get(name, {}).get(key)
    if ranks:
        rows.append(("rank here, 95 %", between(*ranks), 0))
    rows += _verdict_rows(verdict)
    if score.test_size:
        rows.append(("test images or queries", f"{score.test_size:,}", 0))
    if score.role == PUBLISHED:
        source = score.environment.removeprefix("source=")
        rows += [("published by", source, 0), ("how", score.protocol, 0)]
    rows += [
        (name, text, code)
        for name, text, code in (
            ("device", score.device, 0), ("finished", score.time[:16].replace("T", " "), 0),
            ("session", score.session, 1), ("MLflow run", score.mlflow_run, 1),
            ("pytest case", f"test_{score.case_name}", 1), ("again", repeating(score), 1),
        )
        if text
    ]  # fmt: skip
    details.append({"title": f"{key}: {name}", "rows": rows})
    status = verdict.status if verdict else None
    return {
        "value": cell.value,
        "text": _shown(cell),
        "number": len(details) - 1,
        "status": status.value if status else "",
        "mark": _MARKS.get(status, "") if status else "",
        "kind": status.value.replace(" ", "-") if status else "",
    }


def _shown(cell: Cell) -> str:
    if cell.low is None or cell.high is None:
        return f"{cell.value:.4f}"
    return f"{cell.value:.4f} ± {(cell.high - cell.low) / 2:.3f}"


def _verdict_rows(verdict: Verdict | None) -> list[tuple[str, str, int]]:
    if verdict is None:
        return []
    rows = [("verdict", f"{verdict.status.value}: {verdict.reason}", 0)]
    if verdict.score is not None:
        rows.append(("band", f"{verdict.score.low:.4f} to {verdict.score.high:.4f}", 0))
    rows += [
        (
            "published",
            f"{entry.metric} {entry.published:.4f} ± {entry.width:.4f}, {entry.source}",
            0,
        )
        for entry in verdict.published
    ]
    return rows


def _any(board: Board, holds: Callable[[Cell], bool]) -> bool:
    return any(holds(cell) for row in board.cells.values() for cell in row.values())
