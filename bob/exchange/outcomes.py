"""The table of outcomes, read run by run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bob.case import ImageList
from bob.exchange.checks import refusal
from bob.exchange.columns import OUTCOME_COLUMNS, OUTCOMES
from bob.exchange.image_lists import lists_of
from bob.exchange.reading import open_table, unpacked_batches
from bob.ledger.score import RunId

_ROUNDING = 1e-6

KINDS = ("image", "query", "contribution")

_MOST_LISTS = 10_000

_NAMES = tuple(OUTCOME_COLUMNS.names[: OUTCOME_COLUMNS.names.index("list")])
"""What tells a run from all others."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Outcomes of one run.

    Attributes:
        id: As ``Score.run``.
        values: ``(n,)``, from 0 to 1; contributions are weighted.
        of: Whose they are; see ``bob.ledger.units.Units``.
        lists: As there.
    """

    id: RunId
    setting: str
    seed: int
    values: NDArray[np.float64]
    of: str
    lists: tuple[ImageList, ...]


def read_runs(path: Path) -> Iterator[tuple[int, Run]]:
    """Every run of a table, with the number of its first row.

    Raises:
        BobError: The file or a row cannot be taken; it names file, row and column.
    """
    key: tuple[Any, ...] | None = None
    parts: list[NDArray[np.float64]] = []
    lists: list[tuple[str, int]] = []
    first, number = 1, 1
    with open_table(path, OUTCOMES) as table:
        for batch in unpacked_batches(table, path, texts_once=True):
            if not len(batch):
                continue
            _check(batch, path, number)
            index = batch.column("index").to_numpy()
            values = batch.column("value").to_numpy()
            for start, stop in _stretches(batch, (*_NAMES, "list")):
                here = tuple(batch.column(name)[start].as_py() for name in _NAMES)
                if here != key:
                    if key is not None:
                        yield first, _run(key, parts, lists, path, first)
                    key, parts, lists, first = here, [], [], number + start
                    if here[6] not in KINDS:
                        why = f"{here[6]!r} is none of {', '.join(KINDS)}"
                        raise refusal(str(path), first, "kind", why)
                _check_order(index[start:stop], sum(map(len, parts)), path, number + start)
                if here[6] == "image":
                    _check_images(values[start:stop], path, number + start)
                parts.append(values[start:stop].copy())
                _add(lists, batch.column("list")[start].as_py(), stop - start)
                if len(lists) > _MOST_LISTS:
                    why = f"the run that begins in row {first} has more than {_MOST_LISTS:,} lists"
                    raise refusal(str(path), number + start, "list", why)
            number += len(batch)
    if key is not None:
        yield first, _run(key, parts, lists, path, first)


def _add(lists: list[tuple[str, int]], text: str, count: int) -> None:
    if lists and lists[-1][0] == text:
        lists[-1] = (text, lists[-1][1] + count)
    else:
        lists.append((text, count))


def _run(
    key: tuple[Any, ...],
    parts: list[NDArray[np.float64]],
    lists: list[tuple[str, int]],
    path: Path,
    first: int,
) -> Run:
    session, backbone, run, role, setting, seed, kind, of = key
    try:
        images = lists_of(lists)
    except ValueError as error:
        raise refusal(str(path), first, "list", f"of the run that begins here {error}") from None
    return Run(
        id=(session, backbone, run, role),
        setting=setting,
        seed=seed,
        values=np.concatenate(parts),
        of=f"{kind} {of}",
        lists=images,
    )


def _stretches(batch: pa.RecordBatch, names: Sequence[str]) -> list[tuple[int, int]]:
    """Where rows with the same texts in some columns begin and end."""
    changed = np.zeros(len(batch), bool)
    for name in names:
        column = batch.column(name)
        codes = column.indices if pa.types.is_dictionary(column.type) else column
        changed[1:] |= np.diff(codes.to_numpy(zero_copy_only=False)) != 0
    starts = [0, *np.flatnonzero(changed).tolist()]
    return [*zip(starts, [*starts[1:], len(batch)], strict=True)]


def _check(batch: pa.RecordBatch, path: Path, number: int) -> None:
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if column.null_count:
            row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
            raise refusal(str(path), number + row, name, "it is null")
    values = batch.column("value").to_numpy()
    inside = (values >= -_ROUNDING) & (values <= 1 + _ROUNDING)
    weighted = pc.equal(batch.column("kind"), "contribution").to_numpy(zero_copy_only=False)
    wrong = ~np.where(weighted, np.isfinite(values), inside)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise refusal(str(path), number + row, "value", f"{values[row]} is not from 0 to 1")


def _check_images(values: NDArray[np.float64], path: Path, number: int) -> None:
    wrong = np.flatnonzero((values != 0) & (values != 1))
    if len(wrong):
        row = int(wrong[0])
        raise refusal(str(path), number + row, "value", f"{values[row]} of an image is not 0 or 1")


def _check_order(index: NDArray[np.int32], before: int, path: Path, number: int) -> None:
    wrong = np.flatnonzero(index != np.arange(before, before + len(index)))
    if len(wrong):
        row = int(wrong[0])
        why = f"{index[row]} stands where {before + row} is expected: a run's rows are in order"
        raise refusal(str(path), number + row, "index", why)
