"""What a score row of others must be to be taken in."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, fields
from datetime import datetime

from bob.errors import BobError
from bob.ledger.score import PUBLISHED, Score
from bob.protocols import PROTOCOLS, Judged
from bob.protocols.spec import UNITS
from bob.shown import line

ROLES = ("check", "reference", PUBLISHED)

LONGEST = 10_000
"""Characters of a text in a row."""

_SHOWN = 500

_NAMED = ("backbone", "task", "dataset", "metric")
TEXTS = tuple(entry.name for entry in fields(Score) if entry.type == "str")
_COUNTED = ("seed", "test_size")
_MEASURED = ("seconds", "gpu_hours")
_TIME = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)?)?")


@dataclass(frozen=True)
class Fault:
    """What is wrong with a row.

    Attributes:
        column: Where.
        why: A sentence without its full stop.
    """

    column: str
    why: str


def refusal(file: str, row: int, column: str, why: str) -> BobError:
    """The error for a row of a file.

    Args:
        file: As the user named it.
        row: Of the data, from 1; a header is not counted.
        column: Name of the column.
        why: A sentence without its full stop.
    """
    return BobError(f"{file}, row {row}, column {column}: {line(why, limit=_SHOWN)}.")


def too_long(length: int) -> str:
    """What keeps a text of so many characters from being taken in."""
    return f"it has {length:,} characters, and {LONGEST:,} are read"


def fault_of(score: Score) -> Fault | None:
    """What keeps a row from being taken in; none where nothing does."""
    return next(_faults(score), None)


def _faults(score: Score) -> Iterator[Fault]:
    for column in TEXTS:
        if len(getattr(score, column)) > LONGEST:
            yield Fault(column, too_long(len(getattr(score, column))))
        if not _encodable(getattr(score, column)):
            yield Fault(column, f"{getattr(score, column)!r} is no text that UTF-8 can hold")
    for column in _NAMED:
        if not getattr(score, column).strip():
            yield Fault(column, "it is empty")
        if "\0" in getattr(score, column):
            yield Fault(column, "it holds a zero byte")
    if score.role not in ROLES:
        yield Fault("role", f"{score.role!r} is none of {', '.join(ROLES)}")
    if not score.scale and score.role != PUBLISHED:
        yield Fault("scale", "it is empty")
    for column in _COUNTED:
        if getattr(score, column) < 0:
            yield Fault(column, f"{getattr(score, column)} is below 0")
    for column in _MEASURED:
        number = getattr(score, column)
        if not math.isfinite(number) or number < 0:
            yield Fault(column, f"{number} is no time")
    if not is_time(score.time):
        yield Fault("time", f"{score.time!r} is no time of ISO 8601 in UTC")
    yield from _metric_faults(score)


def _metric_faults(score: Score) -> Iterator[Fault]:
    spec = PROTOCOLS.get(score.task)
    judged = spec and {metric.name: metric for metric in spec.judged}.get(score.metric)
    if score.unit and score.unit not in UNITS:
        yield Fault("unit", f"{score.unit!r} is none of {', '.join(UNITS)}")
    elif not score.unit and score.higher_is_better is not None:
        yield Fault("unit", "a judged metric has one")
    elif score.unit and score.higher_is_better is None:
        yield Fault("higher_is_better", "a judged metric has one")
    elif judged and score.unit and score.unit != judged.unit:
        yield Fault(
            "unit",
            f"another metric: {score.task} {score.metric} is of unit {judged.unit} here, and of "
            f"unit {score.unit} there",
        )
    elif judged and score.unit and score.higher_is_better != judged.higher_is_better:
        yield Fault("higher_is_better", f"another metric than {score.task} {score.metric} here")
    elif spec and score.is_score and score.metric != spec.metric:
        yield Fault("is_score", f"another score: that of {score.task} is {spec.metric} here")
    if score.unit in UNITS and math.isfinite(score.value):
        metric = Judged(score.metric, score.unit)
        if not metric.holds(score.value):
            yield Fault("value", f"{score.value} is outside the unit {score.unit}")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_time(text: str) -> bool:
    """Whether a text is a time of ISO 8601 in UTC, or empty."""
    if not text:
        return True
    if not _TIME.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def key_of(score: Score) -> tuple[object, ...]:
    """What tells a row from all others; two rows of one key must have one value."""
    source = score.environment if score.role == PUBLISHED else ""
    return (
        score.backbone, score.task, score.dataset, score.variant, score.scale, score.role,
        score.seed, score.session, score.time, score.run_key, score.mlflow_run, score.protocol,
        score.metric, source,
    )  # fmt: skip


def _exactly(score: Score) -> tuple[object, ...]:
    """All of a row, comparable where a value is no number."""
    return tuple(value.hex() if isinstance(value, float) else value for value in astuple(score))


def distinct(
    rows: Iterable[tuple[int, Score]], file: str, *, columns: Mapping[str, str] | None = None
) -> list[Score]:
    """Rows without those that stand twice, in the order of an export.

    Args:
        rows: With their numbers.
        file: Named in errors.
        columns: By metric, where the file has its value; ``value`` where that is not told.

    Raises:
        BobError: Two rows are of one thing and differ.
    """
    found: dict[tuple[object, ...], tuple[int, Score]] = {}
    for number, row in rows:
        first, other = found.setdefault(key_of(row), (number, row))
        before, after = _exactly(other), _exactly(row)
        if before != after:
            names = list(Score.__dataclass_fields__)
            name = next(n for n, a, b in zip(names, before, after, strict=True) if a != b)
            told = (columns or {}).get(row.metric, name) if name == "value" else name
            raise refusal(
                file, number, told,
                f"row {first} is of the same run and metric and has "
                f"{getattr(other, name)!r}, not {getattr(row, name)!r}",
            )  # fmt: skip
    return [row for _, row in sorted(found.values(), key=lambda entry: key_of(entry[1]))]
