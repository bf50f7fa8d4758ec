"""A folder with the two tables: written whole, read with every check."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bob.errors import BobError
from bob.exchange.checks import LONGEST, TEXTS, distinct, fault_of, refusal, too_long
from bob.exchange.columns import FIELDS, OUTCOMES, SCORES, schema_of, score_table
from bob.exchange.image_lists import list_column
from bob.exchange.outcomes import Run, read_runs
from bob.exchange.reading import MOST_BYTES, MOST_TEXT, Rows, open_table, unpacked_batches
from bob.ledger.score import RunId, Score
from bob.ledger.units import Units
from bob.sizes import show_size

SCORES_FILE, OUTCOMES_FILE = f"{SCORES}.parquet", f"{OUTCOMES}.parquet"

MOST_ROWS = 2_000_000
"""Score rows of a file; a full board of a thousand backbones has a fifth of them."""

_ROW = 26
"""Bytes that an outcome may count when it is read: seed, index and value, and some for texts."""

_COMPRESSION = "zstd"
_GROUP = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Scores and what they are means of.

    Attributes:
        scores: A row for every metric of every run, in the order of ``checks.key_of``.
        units: Outcomes per image or query, by ``Score.run``.
    """

    scores: tuple[Score, ...]
    units: Mapping[RunId, Units] = field(default_factory=dict)


def bundle_of(scores: Iterable[Score], units: Mapping[RunId, Units]) -> Bundle:
    """Scores without those that stand twice, and the outcomes of their runs.

    Raises:
        BobError: Two rows are of one run and metric and have different values.
    """
    rows = distinct(enumerate(scores, start=1), "export")
    runs = {row.run for row in rows}
    return Bundle(
        scores=tuple(rows), units={run: units[run] for run in sorted(runs & units.keys())}
    )


def is_bundle(folder: Path) -> bool:
    """Whether a folder holds a table of scores."""
    return (folder / SCORES_FILE).is_file()


def write_bundle(folder: Path, bundle: Bundle, *, outcomes: bool = True) -> tuple[str, ...]:
    """Write the tables into a folder that is there; equal bundles give equal bytes.

    Args:
        folder: Where to.
        bundle: What.
        outcomes: Whether outcomes are written too; where there are none they never are.

    Returns:
        Names of the files.

    Raises:
        BobError: A text is none in UTF-8 or too long, or it is more than would be read again.
        OSError: A file cannot be written.
    """
    rows = sum(len(found.values) for found in bundle.units.values()) if outcomes else 0
    if len(bundle.scores) > MOST_ROWS or rows * _ROW > MOST_BYTES:
        raise BobError(
            f"{len(bundle.scores):,} scores and {rows:,} outcomes are more than `bob import` "
            "reads. Choose backbones or settings (-k), or leave the outcomes out (--no-outcomes)."
        )
    table = score_table(bundle.scores)
    _check_texts(table, bundle.scores)
    pq.write_table(
        table, folder / SCORES_FILE, compression=_COMPRESSION,
        row_group_size=_GROUP,
    )  # fmt: skip
    if not (outcomes and bundle.units):
        return (SCORES_FILE,)
    schema = schema_of(OUTCOMES)
    of_run = {row.run: row for row in reversed(bundle.scores)}
    with pq.ParquetWriter(folder / OUTCOMES_FILE, schema, compression=_COMPRESSION) as writer:
        parts: list[pa.Table] = []
        for run, units in bundle.units.items():
            parts.append(_part(of_run[run], units, schema))
            if sum(part.num_rows for part in parts) >= _GROUP:
                writer.write_table(pa.concat_tables(parts))
                parts.clear()
        if parts:
            writer.write_table(pa.concat_tables(parts))
    return SCORES_FILE, OUTCOMES_FILE


def _check_texts(table: pa.Table, scores: Iterable[Score]) -> None:
    total = 0
    for setting in {row.setting for row in scores}:  # made of several texts, for outcomes
        if len(setting) > LONGEST:
            raise BobError(f"Scores cannot be written: as a setting {too_long(len(setting))}.")
    for name in TEXTS:
        longest = pc.max(pc.utf8_length(table[name])).as_py() or 0
        if longest > LONGEST:
            raise BobError(f"Scores cannot be written: in column {name} {too_long(longest)}.")
        total += table[name].nbytes
    if total > MOST_TEXT:
        raise BobError(
            f"Scores with {show_size(total)} of text are more than `bob import` reads "
            f"({show_size(MOST_TEXT)}). Choose backbones or settings (-k)."
        )


def _part(row: Score, units: Units, schema: pa.Schema) -> pa.Table:
    count = len(units.values)
    kind, _, of = units.of.partition(" ")
    fixed = (*row.run, row.setting, row.seed, kind, of)
    arrays = [
        pa.repeat(pa.scalar(value, type=column.type), count)
        for value, column in zip(fixed, schema, strict=False)
    ]
    arrays += [
        list_column(units.lists, count),
        pa.array(np.arange(count, dtype=np.int32)),
        pa.array(units.values, type=pa.float64()),
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def read_bundle(folder: Path) -> Bundle:
    """The tables of a folder, checked row by row; links in it are followed.

    Raises:
        BobError: A file is no table of ours, is of a newer version, unpacks to more than
            ``reading.MOST_BYTES``, or a row cannot be taken; it names file, row and column.
    """
    path = folder / SCORES_FILE
    scores = distinct(_checked(path), str(path))
    if not scores:
        raise BobError(f"{path} holds no score.")
    units = {}
    file = folder / OUTCOMES_FILE
    if file.exists():
        known = {row.run: (row.setting, row.seed) for row in scores}
        for number, run in read_runs(file):
            _check_run(run, known, file, number)
            if run.id in units:
                raise refusal(str(file), number, "run", f"{run.id[2]!r} stands twice")
            units[run.id] = Units(values=run.values, of=run.of, lists=run.lists)
    return Bundle(scores=tuple(scores), units=dict(sorted(units.items())))


def _checked(path: Path) -> Iterator[tuple[int, Score]]:
    number = 0
    rows = Rows()
    with open_table(path, SCORES) as table:
        if table.metadata.num_rows > MOST_ROWS:
            raise BobError(f"{path} has {table.metadata.num_rows:,} rows; {MOST_ROWS:,} are read.")
        for batch in unpacked_batches(table, path):
            for plain in rows.of(batch):
                number += 1
                for name, hint in FIELDS.items():
                    if plain[name] is None and hint in (str, int, float, bool):
                        raise refusal(str(path), number, name, "it is null")
                score = Score(**plain)
                fault = fault_of(score)
                if fault is not None:
                    raise refusal(str(path), number, fault.column, fault.why)
                yield number, score


def _check_run(run: Run, known: Mapping[RunId, tuple[str, int]], file: Path, number: int) -> None:
    if run.id not in known:
        why = f"{run.id[1]!r} {run.id[2]!r} of role {run.id[3]!r} has no row in {SCORES_FILE}"
        raise refusal(str(file), number, "run", why)
    for column, ours, theirs in zip(
        ("setting", "seed"), known[run.id], (run.setting, run.seed), strict=True
    ):
        if ours != theirs:
            why = f"the run's {column} is {ours!r} in {SCORES_FILE} and {theirs!r} here"
            raise refusal(str(file), number, column, why)
