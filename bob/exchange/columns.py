"""The two tables of an export, column by column."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, get_type_hints

import pyarrow as pa

from bob import __version__
from bob.errors import BobError
from bob.ledger.score import Score

SCHEMA = 1
"""Version of the tables; one that is newer than the reader's is refused."""

SCORES, OUTCOMES = "scores", "outcomes"
TABLE_KEY, SCHEMA_KEY, VERSION_KEY = b"bob.table", b"bob.schema", b"bob.version"
"""Keys in a file's metadata: which table it is, ``SCHEMA``, and the version of the suite."""

_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}

FIELDS: dict[str, Any] = {entry.name: get_type_hints(Score)[entry.name] for entry in fields(Score)}
"""Columns of the scores and their types: the attributes of ``Score``, in their order."""


def _field(name: str, hint: Any) -> pa.Field:
    if hint in _TYPES:
        return pa.field(name, _TYPES[hint], nullable=False)
    return pa.field(name, pa.bool_())


SCORE_COLUMNS: pa.Schema = pa.schema([_field(name, hint) for name, hint in FIELDS.items()])

OUTCOME_COLUMNS: pa.Schema = pa.schema(
    [
        pa.field("session", pa.string(), nullable=False),
        pa.field("backbone", pa.string(), nullable=False),
        pa.field("run", pa.string(), nullable=False),
        pa.field("role", pa.string(), nullable=False),
        pa.field("setting", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("of", pa.string(), nullable=False),
        pa.field("list", pa.string(), nullable=False),
        pa.field("index", pa.int32(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
    ]
)

WORDS: dict[str, dict[str, str]] = {
    SCORES: {
        "backbone": "the network with its weights",
        "family": "architecture family",
        "pretraining": "what the weights were trained on",
        "task": "the protocol",
        "dataset": "what it was scored on",
        "variant": "detection engine or grid; empty for neither",
        "scale": "which recipes and datasets; empty for published scores",
        "seed": "random seed of the run",
        "metric": "name of the metric",
        "unit": "of a judged metric: proportion, bounded, positive or real; else empty",
        "value": "as a fraction where the unit is proportion or bounded",
        "higher_is_better": "null where the protocol does not judge the metric",
        "is_score": "whether it is the protocol's score",
        "test_size": "images or queries; 0 where it is not known",
        "seeded": "whether another seed may give another score; null where it is not known",
        "protocol": "hash of all that makes two scores comparable; words for published scores",
        "case": "id of what was planned",
        "run_key": "id of what was loaded besides",
        "role": "check, reference or published",
        "version": "of the suite that ran it",
        "weights": "digest of the weights",
        "data": "digest of the data",
        "environment": "versions and device; of a published score its source",
        "seconds": "what the run took",
        "device": "where it ran",
        "gpu_hours": "0 on a CPU",
        "session": "session of the run; empty for a reference",
        "mlflow_run": "id of the MLflow run; empty where it is not known",
        "time": "when it was finished, ISO 8601 in UTC",
    },
    OUTCOMES: {
        "session": "session of the run; empty for a reference",
        "backbone": "as in the scores",
        "run": "run key; of a reference setting and seed",
        "role": "as in the scores",
        "setting": "task/dataset, and the variant if any",
        "seed": "as in the scores",
        "kind": "image, query, or contribution to a score over shifts or draws",
        "of": "digest of the images or queries: equal for two runs on the same, in the same order",
        "list": "which images these are, whatever else the run was scored on: number of the list "
        "within the run, digest of the classes of its images, part of the score that is of them, "
        "and how-manieth image of the list each is; empty where it is not known",
        "index": "position, from 0",
        "value": "1 or 0 for an image that was classified correctly or not; of a query its "
        "average precision; a contribution is weighted, so that their mean is the score",
    },
}
"""What each column holds, in words."""


def schema_of(table: str) -> pa.Schema:
    """Columns of a table, with the metadata its file has."""
    columns = SCORE_COLUMNS if table == SCORES else OUTCOME_COLUMNS
    return columns.with_metadata(
        {
            TABLE_KEY: table.encode(),
            SCHEMA_KEY: str(SCHEMA).encode(),
            VERSION_KEY: __version__.encode(),
        }
    )


def score_table(scores: Iterable[Score]) -> pa.Table:
    """Scores as a table.

    Raises:
        BobError: A text cannot be written in UTF-8, or a number in 64 bits.
    """
    rows, schema = list(scores), schema_of(SCORES)
    arrays = []
    for field in schema:
        values = [getattr(row, field.name) for row in rows]
        try:
            arrays.append(pa.array(values, type=field.type))
        except (pa.ArrowException, UnicodeError, OverflowError) as error:
            raise BobError(
                f"Scores cannot be written: column {field.name} holds what Parquet cannot "
                f"({error})."
            ) from None
    return pa.Table.from_arrays(arrays, schema=schema)
