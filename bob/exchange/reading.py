"""Parquet files of others: their columns are ours, and what they unpack to is bounded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bob.errors import BobError, did_you_mean
from bob.exchange.checks import LONGEST, refusal, too_long
from bob.exchange.columns import SCHEMA, SCHEMA_KEY, TABLE_KEY, VERSION_KEY, schema_of
from bob.regular_files import open_regular
from bob.shown import line
from bob.sizes import show_size

MOST_BYTES = 2**31
"""What a file may be, and may unpack to."""

MOST_TEXT = 2**29
"""What the columns of texts may unpack to: those of a million rows as `bob export` writes them."""

_BATCH = 2**14


@contextmanager
def open_table(path: Path, table: str) -> Iterator[pq.ParquetFile]:
    """A table of an export, its columns checked; texts come as dictionaries.

    Args:
        path: The file.
        table: Which table it has to be.

    Raises:
        BobError: It is not there, no Parquet, another table, newer, or has other columns.
    """
    expected = schema_of(table)
    texts = [field.name for field in expected if field.type == pa.string()]
    try:
        with open_regular(path) as stream:
            _check(path, pq.ParquetFile(stream, pre_buffer=False), expected, table)
            # what stands in a dictionary once is not unpacked for every row that names it
            yield pq.ParquetFile(stream, read_dictionary=texts, pre_buffer=False)
    except (OSError, pa.ArrowException, UnicodeError, MemoryError, OverflowError) as error:
        raise BobError(f"{path} cannot be read as Parquet ({error}).") from None


def _check(path: Path, opened: pq.ParquetFile, expected: pa.Schema, table: str) -> None:
    said = opened.metadata.metadata or {}
    number = said.get(SCHEMA_KEY, b"")
    if said.get(TABLE_KEY) != table.encode() or not number.isdigit():
        raise BobError(
            f"{path} is no table of {table} of `bob export`: its metadata do not say so. Other "
            "tables come in as CSV; see docs/exchange.md."
        )
    if int(number[:9]) > SCHEMA:
        version = said.get(VERSION_KEY, b"").decode(errors="replace")
        raise BobError(
            f"{path} is of schema {int(number[:9])}, written by bob {line(version)}. Update bob to "
            f"read it: this one reads schema {SCHEMA}."
        )
    found = opened.schema_arrow
    known = set(expected.names)
    for name in found.names:
        if name not in known:
            near = did_you_mean(name, known)
            raise BobError(f"{path}, column {line(name)}: there is no such column. {near}".strip())
    for field in expected:
        if found.names.count(field.name) != 1:
            count = found.names.count(field.name)
            raise BobError(f"{path}, column {field.name}: it is there {count} times, not once.")
        kind = found.field(field.name).type
        if kind != field.type:
            raise BobError(f"{path}, column {field.name}: it holds {line(kind)}, not {field.type}.")
    parts = [
        opened.metadata.row_group(group).column(place)
        for group in range(opened.metadata.num_row_groups)
        for place in range(opened.metadata.num_columns)
    ]
    size = sum(part.total_uncompressed_size for part in parts)
    if size > MOST_BYTES or path.stat().st_size > MOST_BYTES:
        raise _too_large(path)
    texts = {field.name for field in expected if field.type == pa.string()}
    if sum(part.total_uncompressed_size for part in parts if part.path_in_schema in texts) > (
        MOST_TEXT
    ):
        raise _too_much_text(path)


def _too_large(path: Path) -> BobError:
    return BobError(f"{path} unpacks to more than {show_size(MOST_BYTES)}; it is not read.")


def _too_much_text(path: Path) -> BobError:
    return BobError(f"{path} unpacks to more than {show_size(MOST_TEXT)} of text; it is not read.")


def unpacked_batches(
    table: pq.ParquetFile, path: Path, *, texts_once: bool = False
) -> Iterator[pa.RecordBatch]:
    """A table part by part, as long as all parts together are within bounds, and each text is.

    Args:
        table: Opened.
        path: Named in errors.
        texts_once: Whether texts count as they are packed, for who does not unpack them for every
            row.

    Raises:
        BobError: There is more than ``MOST_BYTES`` or ``MOST_TEXT``, or a text is longer than
            ``checks.LONGEST``.
    """
    total, text, row = 0, 0, 1
    names = [field.name for field in table.schema_arrow]
    before: dict[str, pa.Array] = {}
    for batch in table.iter_batches(batch_size=_BATCH, columns=names, use_threads=False):
        for name, column in zip(names, batch.columns, strict=True):
            if not pa.types.is_dictionary(column.type):
                total += column.nbytes
                continue
            new = name not in before or not column.dictionary.equals(before[name])
            before[name] = column.dictionary
            _check_texts(column, path, row, name)
            if not texts_once:
                text += _length(column)
            elif new:
                text += column.dictionary.nbytes
        if total + text > MOST_BYTES:
            raise _too_large(path)
        if text > MOST_TEXT:
            raise _too_much_text(path)
        row += len(batch)
        yield batch


def _check_texts(column: pa.Array, path: Path, row: int, name: str) -> None:
    lengths = pc.utf8_length(column.dictionary).take(column.indices)
    longest = pc.max(lengths).as_py() or 0
    if longest > LONGEST:
        place = pc.index(lengths, longest).as_py()
        raise refusal(str(path), row + place, name, too_long(longest))


def _length(column: pa.Array) -> int:
    """Bytes of the texts of all rows."""
    lengths = pc.cast(pc.binary_length(column.dictionary), pa.int64())
    return int(pc.sum(lengths.take(column.indices)).as_py() or 0)


class Rows:
    """The rows of a table's parts; a text that stands in many is in memory once."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def of(self, batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
        """Each row of a part, by column."""
        columns = [self._values(column) for column in batch.columns]
        for values in zip(*columns, strict=True):
            yield dict(zip(batch.schema.names, values, strict=True))

    def _values(self, column: pa.Array) -> list[Any]:
        if not pa.types.is_dictionary(column.type):
            return column.to_pylist()  # type: ignore[no-any-return]
        indices = column.indices.to_pylist()
        used = sorted({index for index in indices if index is not None})
        texts = column.dictionary.take(pa.array(used, pa.int64())).to_pylist()
        known: dict[int | None, str | None] = {None: None}
        for index, text in zip(used, texts, strict=True):
            known[index] = None if text is None else self._texts.setdefault(text, text)
        return [known[index] for index in indices]
