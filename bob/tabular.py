"""Tables as CSV, as aligned text and as Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from bob.shown import line, markdown_text

_CELL = 300


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """A CSV file in UTF-8; floats are rounded to six significant digits.

    What UTF-8 cannot encode, as in a file name of other bytes, is written as an escape.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(header)
    for row in rows:
        writer.writerow(f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row)
    return buffer.getvalue().encode(errors="backslashreplace")


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows padded to columns, each on one line."""
    rows = [[line(cell, limit=_CELL) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def markdown(rows: Sequence[Sequence[str]], *, literal: bool = True) -> str:
    """Rows as a Markdown table.

    Args:
        rows: Header and cells.
        literal: Whether cells are shown as they are; otherwise they are Markdown themselves.
    """
    cells = [[markdown_text(cell) if literal else cell for cell in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    rule = "|" + "|".join(" --- " for _ in rows[0]) + "|"
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"
