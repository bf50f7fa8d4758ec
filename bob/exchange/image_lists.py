"""Which images outcomes are of, as a column of the table of outcomes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import pyarrow as pa

from bob.case import ImageList

_TEXT = re.compile(r"(\d{1,9}) (\S{1,128}) ([0-9.e+-]{1,32}) (\d{1,9})")


def list_column(lists: Sequence[ImageList], count: int) -> pa.Array:
    """The column for a run's outcomes, one list after another; empty texts for no lists.

    Args:
        lists: Of the run.
        count: Outcomes of the run.
    """
    if not lists:
        return pa.repeat(pa.scalar("", type=pa.string()), count)
    return pa.concat_arrays(
        [
            pa.repeat(f"{place} {images.digest} {images.share!r} {images.step}", images.count)
            for place, images in enumerate(lists)
        ]
    )


def lists_of(stretches: Iterable[tuple[str, int]]) -> tuple[ImageList, ...]:
    """The lists of a run.

    Args:
        stretches: Texts of the column and how many rows in turn have each, in their order.

    Raises:
        ValueError: They are no lists; in words.
    """
    counted = list(stretches)
    if [text for text, _ in counted] == [""]:
        return ()
    found: list[ImageList] = []
    for text, count in counted:
        parts = _TEXT.fullmatch(text)
        if parts is None or int(parts[1]) != len(found):
            raise ValueError(f"{text!r} is not number, digest, share and step of list {len(found)}")
        try:
            share, step = float(parts[3]), int(parts[4])
        except ValueError:
            share, step = math.nan, 1
        if not 0 < share <= 1 + 1e-9 or step < 1:
            raise ValueError(f"{text!r} has no share above 0 and up to 1, or no step of 1 or more")
        found.append(ImageList(count=count, digest=parts[2], share=share, step=step))
    return tuple(found)
