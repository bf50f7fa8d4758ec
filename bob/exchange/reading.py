"""Parquet files of others: their columns are ours, and what they unpack to is bounded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bob.errors import BobError, did_you_mean
from bob.exchange.columns import SCHEMA, SCHEMA_KEY, TABLE_KEY, VERSION_KEY, schema_of
from bob.regular_files import open_regular
from bob.shown import line

MOST_BYTES = 2**31
"""What a file may be, and may unpack to."""

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
    packed = opened.metadata
    size = sum(packed.row_group(i).total_byte_size for i in range(packed.num_row_groups))
    if size > MOST_BYTES or path.stat().st_size > MOST_BYTES:
        raise _too_large(path)


def _too_large(path: Path) -> BobError:
    return BobError(f"{path} unpacks to more than {MOST_BYTES / 2**30:.0f} GiB; it is not read.")


def unpacked_batches(
    table: pq.ParquetFile, path: Path, *, texts_once: bool = False
) -> Iterator[pa.RecordBatch]:
    """A table part by part, as long as all parts together are within ``MOST_BYTES``.

    Args:
        table: Opened.
        path: Named in errors.
        texts_once: Whether a text counts once a part, for who does not unpack it for every row.
    """
    total = 0
    names = [field.name for field in table.schema_arrow]
    for batch in table.iter_batches(batch_size=_BATCH, columns=names, use_threads=False):
        for column in batch.columns:
            if not pa.types.is_dictionary(column.type):
                total += column.nbytes
            else:
                total += column.dictionary.nbytes if texts_once else _length(column)
        if total > MOST_BYTES:
            raise _too_large(path)
        yield batch


def _length(column: pa.Array) -> int:
    """Bytes of the texts of all rows."""
    lengths = pc.cast(pc.binary_length(column.dictionary), pa.int64())
    return int(pc.sum(lengths.take(column.indices)).as_py() or 0)
