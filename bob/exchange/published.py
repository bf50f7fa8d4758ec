"""Tables that others publish, as rows of role ``published``."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bob.catalog import Catalog
from bob.errors import BobError, unknown
from bob.exchange.bundle import Bundle, bundle_of
from bob.exchange.checks import distinct, fault_of, refusal
from bob.exchange.long_table import LONG_COLUMNS, canonical, long_scores
from bob.exchange.timm_table import TABLES, TIMM_COLUMNS, timm_scores
from bob.exchange.visbench import visbench_rows
from bob.ledger.score import Score
from bob.regular_files import read_regular

MOST_BYTES = 2**26
"""Of a file; the largest table of timm has a thousandth of it."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a file gave.

    Attributes:
        bundle: Scores and outcomes.
        apart: How many rows no board has, by why, in words.
    """

    bundle: Bundle
    apart: dict[str, int] = field(default_factory=dict)


def read_csv(path: Path, catalog: Catalog) -> Taken:
    """The scores of a table of timm, or of one with a score a row.

    Raises:
        BobError: A column is not known, or a row cannot be taken; it names file, row and column.
    """
    header, rows = _table(path)
    columns: dict[str, str] = {}
    if header[:1] == ["model"] and "top1" in header:
        _check_columns(path, header, TIMM_COLUMNS, required=("model", "top1", "top5", "img_size"))
        found = timm_scores(path, rows, catalog)
        columns = dict(zip(TABLES.get(path.name, ()), ("top1", "top5"), strict=False))
    else:
        header = [canonical(name) for name in header]
        _check_columns(
            path, header, LONG_COLUMNS, required=("backbone", "task", "dataset", "metric", "value")
        )
        renamed = ((number, dict(zip(header, row.values(), strict=True))) for number, row in rows)
        found = long_scores(path, renamed, catalog)
    return _taken(path, found, columns)


def read_records(path: Path, catalog: Catalog) -> Taken:
    """The scores of a file of VisBench's records.

    Raises:
        BobError: A record is of no schema that is known, or cannot be taken; it names file, row
            (number of the line) and field.
    """
    lines = enumerate(_text(path).split("\n"), start=1)
    rows, left_out = visbench_rows(path, ((number, line) for number, line in lines if line.strip()))
    return _taken(path, long_scores(path, rows, catalog), {}, left_out)


def _taken(
    path: Path,
    found: Iterable[tuple[int, str, Score]],
    columns: Mapping[str, str],
    left_out: Mapping[str, int] | None = None,
) -> Taken:
    scores = distinct(_checked(path, found), str(path), columns=columns)
    if not scores:
        raise BobError(f"{path} holds no score.")
    apart = Counter(
        f"{row.task} {row.metric} is no metric that the suite judges"
        for row in scores
        if not row.unit
    )
    apart.update(left_out or {})
    return Taken(bundle=bundle_of(scores, {}), apart=dict(apart.most_common()))


def _checked(path: Path, found: Iterable[tuple[int, str, Score]]) -> Iterator[tuple[int, Score]]:
    for number, column, score in found:
        if not math.isfinite(score.value):
            raise refusal(str(path), number, column, f"{score.value} is no score")
        fault = fault_of(score)
        if fault is not None:
            where = column if fault.column == "value" else fault.column
            raise refusal(str(path), number, where, fault.why)
        yield number, score


def _table(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Header, and rows with their numbers."""
    try:
        lines = list(csv.reader(io.StringIO(_text(path), newline=""), strict=True))
    except csv.Error as error:
        raise BobError(f"{path} cannot be read as CSV ({error}).") from None
    if not lines:
        raise BobError(f"{path} is empty.")
    header = [name.strip() for name in lines[0]]
    for mark, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and mark in header[0]:
            raise BobError(f"{path}: its columns are parted by {word}; save it with commas.")
    rows = []
    for number, cells in enumerate(lines[1:], start=1):
        if not cells:
            continue
        if len(cells) != len(header):
            raise BobError(f"{path}, row {number}: {len(cells)} cells for {len(header)} columns.")
        cleaned = (cell.strip() for cell in cells)
        rows.append((number, dict(zip(header, cleaned, strict=True))))
    return header, rows


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BobError(f"{path} is larger than {MOST_BYTES / 2**20:.0f} MiB; it is not read.")
        return read_regular(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BobError(f"{path} is no text in UTF-8 (byte {error.start}).") from None
    except OSError as error:
        raise BobError(f"{path} cannot be read ({error}).") from None


def _check_columns(
    path: Path, header: Sequence[str], known: Mapping[str, str], *, required: Sequence[str]
) -> None:
    for name in header:
        if name not in known:
            raise BobError(f"{path}: {unknown('column', name, known)} See docs/exchange.md.")
        if header.count(name) > 1:
            raise BobError(f"{path}, column {name}: it is there {header.count(name)} times.")
    for name in required:
        if name not in header:
            raise BobError(f"{path}, column {name}: it is not there.")
