"""Which values of images with more than 8 bits are black and white: decided for a whole dataset.

An image alone cannot say. A 12-bit picture in a 16-bit file whose brightest value is 800 is a dark
picture; scaled by its own maximum it would be a bright one, and scaled by 65,535 a black one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bob.catalog.value_range import ValueRange
from bob.datasets.decoding import DEEP, has_more_frames
from bob.datasets.images import Files, ImageSource, ImageSplit
from bob.datasets.pixel_values import BYTES, FLOATS, UNITS, WHOLE, WORDS, Ranges
from bob.datasets.seen_values import Seen

_BITS = (8, 10, 12, 14, 16)
_BRIGHT = 127.0

_Data = TypeVar("_Data")


def with_ranges(data: _Data, given: ValueRange | None = None) -> _Data:
    """The same data, their splits told what is black and what is white, with notes of it.

    Args:
        data: Any dataclass with ``notes`` whose fields are splits, or tuples of dataclasses that
            hold some; it comes back as it is if its splits were told already.
        given: What the user says; measured unless given.
    """
    splits = [split for split in _splits(data) if split.ranges is None]
    if not splits:
        return data
    ranges, notes = measured([split.source for split in splits], given)
    told = (*getattr(data, "notes", ()), *notes, *_first_frames(splits))
    ranged: _Data = replace(_ranged(data, ranges), notes=told)
    return ranged


def measured(
    sources: Sequence[ImageSource], given: ValueRange | None = None
) -> tuple[Ranges, tuple[str, ...]]:
    """The ranges of the images of one dataset, and what to say of them.

    Whole numbers: 0 to the highest value of the fewest bits of 8, 10, 12, 14 and 16 that hold them
    all. Floats: 0 to 1 or 0 to 255 where they fill that. Else, and where there are negative
    values, from the lowest to the highest. Values that are not finite do not count.

    Args:
        sources: Images of all splits.
        given: What the user says; measured unless given.
    """
    whole, floats = Seen(), Seen()
    infinite = damaged = 0
    modes: Counter[str] = Counter()
    brightest = 0
    for mode, values in _wide(sources, modes):
        if mode == DEEP:
            colours = values[..., :-1] if values.shape[-1] in (2, 4) else values
            brightest = max(brightest, int(colours.max()))
            continue
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        damaged += finite.size < values.size
        infinite += values.size - finite.size
        (floats if values.dtype.kind == "f" else whole).add(finite)
    deep = [_deep_note(modes[DEEP], brightest)] if modes[DEEP] else []
    if not whole.images and not floats.images:
        idle = "range= changes nothing: there is no grey image of more than 8 bits"
        return Ranges(), (*deep, *([idle] if given else []))
    ranges = Ranges(
        whole=given or _whole(whole) or WORDS,
        floats=given or _float(floats) or UNITS,
        wide=True,
    )
    notes = deep
    for seen, kind, chosen in (
        (whole, "whole numbers of more than 8 bits", ranges.whole),
        (floats, "floating-point values", ranges.floats),
    ):
        if seen.images:
            notes.append(_note(seen, kind, chosen, given is not None))
    if infinite:
        notes.append(
            f"{damaged} images hold {infinite} values that are NaN or infinite; black took their "
            "place"
        )
    return ranges, tuple(notes)


def _first_frames(splits: Sequence[ImageSplit]) -> tuple[str, ...]:
    """What to say of files that hold several pictures."""
    count = sum(
        has_more_frames(split.source.root / name)
        for split in splits
        if isinstance(split.source, Files)
        for name in split.source.names
    )
    if not count:
        return ()
    hold = "1 file holds" if count == 1 else f"{count} files hold"
    return (f"{hold} several frames or pages, of which the first alone is used",)


def _deep_note(images: int, brightest: int) -> str:
    hold = "1 image holds" if images == 1 else f"{images} images hold"
    text = f"{hold} 16 bits a channel; Pillow decodes the upper 8 of them"
    if brightest >= 128:
        return text
    return (
        f"{text}. No value is above {brightest * 256 + 255} of 65535, so {brightest + 1} of the "
        "256 levels are left: scale the images to all 16 bits"
    )


def _note(seen: Seen, kind: str, chosen: ValueRange, given: bool) -> str:
    images = "1 image holds" if seen.images == 1 else f"{seen.images} images hold"
    found = f", {seen.low:g} to {seen.high:g}" if seen.low <= seen.high else ""
    text = f"{images} {kind}{found}: {chosen} are scaled to 8 bits"
    if given:
        clipped = seen.low < chosen.low or seen.high > chosen.high
        text += ", as range= says" + ("; what lies beyond is clipped" if clipped else "")
    crowded = seen.crowded(chosen)
    if crowded:
        return f"{text}; {crowded}"
    return text if given else f"{text}; range=LOW:HIGH chooses others"


def _whole(seen: Seen) -> ValueRange | None:
    if seen.low > seen.high:
        return None
    tops = [2.0**bits - 1 for bits in _BITS]
    if seen.low < 0 or seen.high > tops[-1]:
        return ValueRange(seen.low, seen.high)
    return ValueRange(0, next(top for top in tops if top >= seen.high))


def _float(seen: Seen) -> ValueRange | None:
    if seen.low > seen.high:
        return None
    if seen.low >= 0 and seen.high <= 1:
        return UNITS
    if seen.low >= 0 and _BRIGHT < seen.high <= 255:
        return BYTES
    return ValueRange(min(0.0, seen.low), seen.high)


def _wide(
    sources: Iterable[ImageSource], modes: Counter[str]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Mode and values of every image of more than 8 bits that can be read; counts modes."""
    for source in sources:
        for index in range(len(source)):
            try:
                mode = source.mode(index)
                if mode not in (*WHOLE, *FLOATS, DEEP):
                    continue
                values = np.asarray(source.open(index))
            except Exception:  # whatever a decoder raises is told when the image is read
                continue
            modes[mode] += 1
            yield mode, values


def _splits(data: Any) -> list[ImageSplit]:
    found: list[ImageSplit] = []
    for field in fields(data):
        value = getattr(data, field.name)
        if isinstance(value, ImageSplit):
            found.append(value)
        elif isinstance(value, tuple):
            found += [
                part.split for part in value if isinstance(getattr(part, "split", None), ImageSplit)
            ]
    return found


def _ranged(data: Any, ranges: Ranges) -> Any:
    changes: dict[str, Any] = {}
    for field in fields(data):
        value = getattr(data, field.name)
        if isinstance(value, ImageSplit):
            changes[field.name] = value.with_ranges(ranges)
        elif isinstance(value, tuple):
            changes[field.name] = tuple(
                replace(part, split=part.split.with_ranges(ranges))
                if isinstance(getattr(part, "split", None), ImageSplit)
                else part
                for part in value
            )
    return replace(data, **changes)
