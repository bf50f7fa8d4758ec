"""JSON of others: whatever is wrong with it is a ``ValueError`` that says what."""

from __future__ import annotations

import json
from typing import Any


def parse_json(content: str | bytes) -> Any:
    """The value of a JSON text.

    A key that stands twice in one object is refused: Python's reader keeps the last in silence.

    Args:
        content: Text, or bytes in UTF-8, 16 or 32 with a mark of byte order or without.

    Raises:
        json.JSONDecodeError: It is not JSON; with the line.
        UnicodeDecodeError: It is not text.
        ValueError: It is nested too deeply, gives a key twice, or holds a number of more digits
            than Python reads.
    """
    try:
        return json.loads(content, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} is given twice in one object")
    return found
