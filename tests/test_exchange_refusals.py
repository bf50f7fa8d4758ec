"""Imported files are data: what is wrong in one is one error with file, row and column."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bob.cli import main
from bob.errors import BobError
from bob.exchange import bundle as bundles
from bob.exchange import reading
from bob.exchange.bundle import bundle_of, read_bundle, write_bundle
from bob.ledger.units import Units
from tests.board_parts import made_up

Change = Callable[[pa.Table], pa.Table]
SCORES, OUTCOMES = "scores.parquet", "outcomes.parquet"


@pytest.fixture
def export(tmp_path: Path) -> Path:
    rows = made_up(2, 3)
    units = {
        row.run: Units(values=np.array([1.0, 0.0, 1.0, 1.0]), of=f"image {row.dataset}")
        for row in rows
    }
    write_bundle(tmp_path, bundle_of(rows, units))
    return tmp_path


def cell(column: str, value: Any, row: int = 2) -> Change:
    """One cell with another value; rows count from 1."""

    def changed(table: pa.Table) -> pa.Table:
        values = table.column(column).to_pylist()
        values[row - 1] = value
        place = table.schema.get_field_index(column)
        field = table.schema.field(column)
        if value is None:
            field = field.with_nullable(True)
        return table.set_column(place, field, pa.array(values, type=field.type))

    return changed


def metadata(key: bytes, value: bytes) -> Change:
    return lambda table: table.replace_schema_metadata({**table.schema.metadata, key: value})


def retyped(column: str, kind: pa.DataType) -> Change:
    return lambda table: table.set_column(
        table.schema.get_field_index(column), column, table.column(column).cast(kind)
    )


def twice(value: float) -> Change:
    def changed(table: pa.Table) -> pa.Table:
        return pa.concat_tables([table, cell("value", value, 1)(table.slice(0, 1))])

    return changed


WRONG_SCORES = {
    "unknown column": (lambda t: t.append_column("score", t["value"]), "column score: there is no"),
    "acting column": (lambda t: t.append_column("\x1b[2J", t["value"]), r"column \x1b[2J: there"),
    "acting name": (cell("role", "\x1b[2J"), r"row 2, column role: '\x1b[2J' is none of"),
    "near column": (lambda t: t.append_column("datset", t["task"]), "Did you mean 'dataset'"),
    "missing column": (lambda t: t.drop_columns(["unit"]), "column unit: it is there 0 times"),
    "column twice": (lambda t: t.append_column("unit", t["unit"]), "column unit: it is there 2"),
    "other type": (retyped("seed", pa.int32()), "column seed: it holds int32, not int64"),
    "floats as text": (retyped("value", pa.string()), "column value: it holds string, not double"),
    "newer": (metadata(b"bob.schema", b"2"), "is of schema 2, written by bob"),
    "no schema": (metadata(b"bob.schema", b""), "is no table of scores of `bob export`"),
    "other table": (metadata(b"bob.table", b"outcomes"), "is no table of scores"),
    "foreign": (lambda t: t.replace_schema_metadata({}), "Other tables come in as CSV"),
    "null": (cell("task", None), "row 2, column task: it is null"),
    "long": (
        cell("backbone", "x" * 10_001),
        "row 2, column backbone: it has 10,001",
    ),
    "long words": (
        cell("environment", "ä" * 20_000, 5),
        "row 5, column environment: it has 20",
    ),
    "long role": (cell("role", "x" * 9_999), "x' is none of check, reference, published."),
    "empty name": (cell("backbone", ""), "row 2, column backbone: it is empty"),
    "no scale": (cell("scale", ""), "row 2, column scale: it is empty"),
    "role": (cell("role", "chek"), "row 2, column role: 'chek' is none of check, reference"),
    "seed": (cell("seed", -1), "row 2, column seed: -1 is below 0"),
    "size": (cell("test_size", -5), "row 2, column test_size: -5 is below 0"),
    "seconds": (cell("seconds", float("nan")), "row 2, column seconds: nan is no time"),
    "time": (cell("time", "zzz"), "row 2, column time: 'zzz' is no time"),
    "no such day": (cell("time", "2026-02-30"), "row 2, column time"),
    "outside the unit": (cell("value", 1.5), "row 2, column value: 1.5 is outside the unit"),
    "no such unit": (cell("unit", "percent"), "row 2, column unit: 'percent' is none of"),
    "unit of another metric": (cell("unit", "real"), "row 2, column unit: another metric: "),
    "no unit": (cell("unit", ""), "row 2, column unit: a judged metric has one"),
    "no direction": (cell("higher_is_better", None), "row 2, column higher_is_better"),
    "other direction": (cell("higher_is_better", False), "column higher_is_better: another metric"),
    "other score": (cell("metric", "vote_share", 3), "row 3, column is_score: another score"),
    "contradiction": (twice(0.25), "row 7, column value: row 1 is of the same run and metric"),
    "empty": (lambda t: t.slice(0, 0), "holds no score"),
}

WRONG_OUTCOMES = {
    "newer": (metadata(b"bob.schema", b"17"), "is of schema 17"),
    "null": (cell("of", None, 6), "row 6, column of: it is null"),
    "above 1": (cell("value", 1.25, 6), "row 6, column value: 1.25 is not from 0 to 1"),
    "no number": (cell("value", float("nan"), 6), "row 6, column value: nan is not"),
    "part of an image": (cell("value", 0.5, 6), "row 6, column value: 0.5 of an image"),
    "long": (cell("of", "x" * 10_001, 7), "row 7, column of: it has 10,001 characters"),
    "order": (cell("index", 3, 6), "row 6, column index: 3 stands where 1 is expected"),
    "cut": (lambda t: t.slice(1), "row 1, column index: 1 stands where 0"),
    "kind": (cell("kind", "pixel", 1), "row 1, column kind: 'pixel' is none of image, query"),
    "nobody's": (cell("run", "x", 1), "row 1, column run: 'backbone_000' 'x' of role"),
    "setting": (cell("setting", "x/y", 1), "row 1, column setting: the run's setting is"),
    "seed": (cell("seed", 5, 1), "row 1, column seed: the run's seed is 0"),
    "no list": (cell("list", "x", 6), "row 5, column list: of the run that begins here '' is not"),
    "list of another": (cell("list", "1 d 0.5 1", 5), "'1 d 0.5 1' is not number, digest, share"),
    "share of a list": (cell("list", "0 d 1.5 1", 5), "'0 d 1.5 1' has no share above 0"),
    "no share": (cell("list", "0 d e+e 1", 5), "'0 d e+e 1' has no share above 0"),
    "step of a list": (cell("list", "0 d 0.5 0", 5), "or no step of 1 or more"),
    "twice": (lambda t: pa.concat_tables([t, t.slice(0, 4)]), "row 25, column run: "),
}


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        pytest.param(file, *wrong, id=f"{file.partition('.')[0]}: {name}")
        for file, cases in ((SCORES, WRONG_SCORES), (OUTCOMES, WRONG_OUTCOMES))
        for name, wrong in cases.items()
    ],
)
def test_a_wrong_table_is_refused_whole(
    export: Path, file: str, change: Change, told: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(export)
    path = export / file
    pq.write_table(change(pq.read_table(path)), path)
    assert main(["import", str(export), "--as", "x"]) == 2
    error = capsys.readouterr().err
    assert f"bob: {path}" in error
    assert told in error
    assert error.count("\n") == 1
    assert not (export / "mlruns").exists()
    assert main(["report", "--from", str(export), "-o", "-"]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"\x80\x04K\x01."]
)
def test_what_is_no_parquet_is_refused(export: Path, content: bytes) -> None:
    (export / SCORES).write_bytes(content)
    with pytest.raises(BobError, match="cannot be read as Parquet"):
        read_bundle(export)


@pytest.mark.parametrize("file", [SCORES, OUTCOMES])
def test_every_cut_and_flipped_byte_is_an_error_or_harmless(export: Path, file: str) -> None:
    whole = (export / file).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.integers(0, len(whole), 100):
        content = bytearray(whole)
        content[place] ^= int(rng.integers(1, 256))
        (export / file).write_bytes(whole[:place])
        with pytest.raises(BobError):
            read_bundle(export)
        (export / file).write_bytes(content)
        try:
            found = read_bundle(export)
        except BobError:
            refused += 1
            continue
        assert len(found.scores) == 6
    assert refused > 50


def test_what_unpacks_to_too_much_is_refused(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(path.stat().st_size for path in export.iterdir())
    table = pq.read_table(export / SCORES)
    long = pa.array(["x" * 10_000] * len(table))
    place = table.schema.get_field_index("environment")
    field = table.schema.field("environment")
    repeated = pa.concat_tables([table.set_column(place, field, long)] * 50)
    pq.write_table(repeated, export / SCORES, compression="zstd")
    assert (export / SCORES).stat().st_size < size + 100_000
    for bound, told in (
        ("MOST_BYTES", "unpacks to more than 976.6 KB; it is not read"),
        ("MOST_TEXT", "unpacks to more than 976.6 KB of text; it is not read"),
    ):
        monkeypatch.setattr(reading, bound, 1_000_000)
        with pytest.raises(BobError, match=told):
            read_bundle(export)
        monkeypatch.undo()
    monkeypatch.setattr(bundles, "MOST_ROWS", 5)
    with pytest.raises(BobError, match="has 300 rows; 5 are read"):
        read_bundle(export)


def test_texts_are_held_against_the_bound_before_they_are_unpacked(
    export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their size is told by the file, so that nothing of it is read."""
    monkeypatch.setattr(reading, "MOST_TEXT", 100)
    monkeypatch.setattr(reading, "unpacked_batches", None)
    with pytest.raises(BobError, match="unpacks to more than 100 B of text"):
        read_bundle(export)


BOMBS = {
    "a long name": (SCORES, "backbone", 78_000_000, 20),
    "long texts in many rows": (SCORES, "environment", 10_000, 100_000),
}
IMPORTED = """
import re, sys
from pathlib import Path
from bob.cli import main
status = main(["import", sys.argv[1], "--as", "x"])
print(status, int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", BOMBS)
def test_a_few_kilobytes_do_not_fill_the_memory(export: Path, kind: str) -> None:
    file, column, length, rows = BOMBS[kind]
    table = pq.read_table(export / file)
    table = pa.concat_tables([table] * (rows // len(table) + 1))
    indices = pa.array(np.zeros(len(table), np.int32))
    long = pa.DictionaryArray.from_arrays(indices, pa.array(["x" * length]))
    place = table.schema.get_field_index(column)
    changed = table.set_column(place, pa.field(column, long.type, nullable=False), long)
    with pq.ParquetWriter(
        export / file, changed.schema, compression="zstd", store_schema=False
    ) as writer:
        writer.write_table(changed)
        writer.add_key_value_metadata(table.schema.metadata)
    assert (export / file).stat().st_size < 200_000
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, str(export)], cwd=export, capture_output=True, text=True
    )
    status, megabytes = map(int, done.stdout.split())
    assert status == 2
    assert done.stderr.count("\n") == 1
    assert megabytes < 800


def test_more_than_is_read_is_not_written(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = read_bundle(export)
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setattr(bundles, "MOST_BYTES", 100)
    with pytest.raises(BobError, match="6 scores and 24 outcomes are more than"):
        write_bundle(other, found)
    assert not list(other.iterdir())
    assert write_bundle(other, found, outcomes=False) == (SCORES,)
    monkeypatch.undo()
    monkeypatch.setattr(bundles, "MOST_TEXT", 100)
    with pytest.raises(BobError, match=r"Scores with .* of text are more than `bob import` reads"):
        write_bundle(other, found)
    monkeypatch.undo()
    long = replace(found.scores[0], environment="x" * 10_001)
    with pytest.raises(BobError, match="in column environment it has 10,001 characters"):
        write_bundle(other, bundle_of([long], {}))


def test_a_run_of_lists_without_end_is_refused(
    export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bob.exchange.outcomes._MOST_LISTS", 2)
    table = pq.read_table(export / OUTCOMES)
    for row, text in ((5, "a"), (6, "b"), (7, "a")):
        table = cell("list", text, row)(table)
    pq.write_table(table, export / OUTCOMES)
    with pytest.raises(BobError, match="row 7, column list: the run that begins in row 5 has more"):
        read_bundle(export)


def test_a_pipe_is_not_waited_for(export: Path) -> None:
    import os

    (export / SCORES).unlink()
    os.mkfifo(export / SCORES)
    with pytest.raises(BobError, match="it is a pipe"):
        read_bundle(export)
