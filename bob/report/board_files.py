"""A board as Markdown, CSV and Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bob.errors import BobError, some
from bob.report.board import Board, between
from bob.report.page import completing
from bob.tabular import csv_bytes, markdown

COLUMNS = (
    "backbone", "family", "architecture", "pretraining", "licence", "parameters_m", "scale", "task",
    "setting", "metric", "score", "low", "high", "seeds", "rank", "rank_low", "rank_high", "mean_z",
    "verdict", "role", "protocol", "session", "mlflow_run", "time",
)  # fmt: skip


def markdown_text(board: Board, *, title: str) -> str:
    """The board, its picks and what is incomplete."""
    parts = [f"# {title}", ""]
    parts += [f"- {pick.question}: **{pick.backbone}** ({pick.because})" for pick in board.picks]
    groups = [row.group for row in board.rows]
    rows: list[tuple[str, ...]] = [
        ("rank", "rank, 95 %", "backbone", "mean z", *board.tasks, "M parameters", "seconds")
    ]
    for row in board.rows:
        rows.append(
            (
                f"{'=' if groups.count(row.group) > 1 else ''}{row.rank}",
                between(row.low, row.high),
                row.facts.backbone,
                f"{row.mean_z:+.2f}",
                *(f"{row.by_task[t]:+.2f}" if t in row.by_task else "" for t in board.tasks),
                f"{row.facts.parameters_m:.2f}" if row.facts.parameters_m else "",
                f"{row.seconds:.0f}" if row.seconds else "",
            )
        )
    if board.rows:
        parts += ["", markdown(rows)]
    if board.incomplete:
        parts += ["Incomplete, and therefore not ranked:", ""]
        parts += [
            f"- {entry.facts.backbone} lacks {some(entry.lacking)}: "
            f"`{completing(entry, board.scale)}`"
            for entry in board.incomplete
        ]
    parts += ["", *(f"- {text}" for text in (*board.published, *board.disagreements))]
    return "\n".join(parts).rstrip() + "\n"


def records(board: Board) -> list[dict[str, Any]]:
    """One record for each backbone and setting, with ``COLUMNS``."""
    rows = {row.facts.backbone: row for row in board.rows}
    found = []
    for name in board.settings:
        setting, _, metric = name.rpartition(" ")
        for key, entry in board.cells[name].items():
            facts, score, row = board.facts[key], board.newest[name][key], rows.get(key)
            verdict = board.verdicts.get((key, setting))
            values = (
                key, facts.family, facts.architecture, facts.pretraining, facts.licence,
                facts.parameters_m or None, board.scale, score.task, setting, metric, entry.value,
                entry.low, entry.high, entry.seeds, row.rank if row else None,
                row.low if row else None, row.high if row else None, row.mean_z if row else None,
                verdict.status.value if verdict else None, score.role, score.protocol,
                score.session, score.mlflow_run, score.time,
            )  # fmt: skip
            found.append(dict(zip(COLUMNS, values, strict=True)))
    return found


def csv_table(board: Board) -> bytes:
    """``records`` as CSV; what is not known is empty."""
    rows = [["" if value is None else value for value in row.values()] for row in records(board)]
    return csv_bytes(COLUMNS, rows)


def write_parquet(board: Board, path: Path) -> None:
    """``records`` as a Parquet file.

    Raises:
        BobError: It cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        pq.write_table(pa.Table.from_pylist(records(board)), path)
    except OSError as error:
        raise BobError(f"Cannot write {path} ({error.strerror or error}).") from None
