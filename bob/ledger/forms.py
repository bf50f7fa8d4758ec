"""What plain data of the ledger have to look like, for who takes their parts at their word.

Session, summary and verdict files carry no digest. One that was bent is told here, not where its
parts are put into a table or sent to a store, which would be blamed for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bob.case import Status
from bob.hashing import file_name

_ENDS = ("FINISHED", "FAILED", "KILLED")
_LONGEST_NAME = 200
_MOST = 2**53


def text(record: Mapping[str, Any], name: str) -> str:
    """A text of a record.

    Raises:
        KeyError: There is no such part.
        TypeError: It is something else.
    """
    if not isinstance(record[name], str):
        raise TypeError(f"{name} is no text")
    return str(record[name])


def texts(record: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A list of texts; errors as of ``text``."""
    found = record[name]
    if not isinstance(found, list) or not all(isinstance(value, str) for value in found):
        raise TypeError(f"{name} is no list of texts")
    return tuple(found)


def named_texts(record: Mapping[str, Any], name: str) -> dict[str, str]:
    """Texts by name; errors as of ``text``."""
    found = named(record, name)
    for inner in found:
        text(found, inner)
    return found


def named(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Values by name; errors as of ``text``."""
    found = record[name]
    if not isinstance(found, dict):
        raise TypeError(f"{name} is no mapping")
    return found


def records(record: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """A list of records; errors as of ``text``."""
    found = record[name]
    if not isinstance(found, list) or not all(isinstance(value, dict) for value in found):
        raise TypeError(f"{name} is no list of records")
    return found


def number(record: Mapping[str, Any], name: str) -> float:
    """A number, or the text that stands for one which JSON has no word for.

    Raises:
        KeyError: There is no such part.
        OverflowError: It is too large.
        TypeError: It is something else.
        ValueError: It is another text.
    """
    if isinstance(record[name], bool):
        raise TypeError(f"{name} is no number")
    return float(record[name])


def whole(value: Any, name: str) -> int:
    """A whole number of at most 53 bits.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _MOST:
        raise TypeError(f"{name} is no whole number")
    return value


def truth(value: Any, name: str) -> bool:
    """True or false; errors as of ``whole``."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} is neither true nor false")
    return value


def moment(record: Mapping[str, Any], name: str) -> str:
    """A time in ISO 8601 that counts in seconds since 1970.

    Raises:
        KeyError: There is no such part.
        OverflowError: It is too far away.
        TypeError: It is no text.
        ValueError: It is no time.
    """
    found = text(record, name)
    datetime.fromisoformat(found).timestamp()
    return found


def check_summary(record: Mapping[str, Any]) -> None:
    """Hold the summary of a session against the form that ``Ledger.write_summary`` is given.

    Raises:
        KeyError: A part is missing.
        OverflowError: A number is too large.
        TypeError: A part is something else than it should be.
        ValueError: A part has none of the values that it may have.
    """
    if record["status"] not in _ENDS:
        raise ValueError(f"status is none of {', '.join(_ENDS)}")
    text(record, "table")
    for name, count in named(record, "counts").items():
        whole(count, name)
    if "further" in record:  # earlier versions had none
        for name, content in named_texts(record, "further").items():
            if name != file_name(name) or name.startswith(".") or not 0 < len(name) < _LONGEST_NAME:
                raise ValueError("further has what is no name of a file")
            content.encode()
    for row in records(record, "rows"):
        _check_row(row)


def _check_row(row: Mapping[str, Any]) -> None:
    for name in ("backbone", "task", "dataset", "metric", "reason"):
        text(row, name)
    Status(row["status"])
    if row["score"] is not None:
        number(row, "score")
    if row["failure"] is not None:
        text(row, "failure")
    truth(row.get("unchanged", False), "unchanged")  # earlier versions do not tell
    bands = named(row, "bands")
    for metric in bands:
        band = named(bands, metric)
        for name in ("value", "low", "high", "reference"):
            number(band, name)
