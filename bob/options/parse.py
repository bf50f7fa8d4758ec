"""What was said of an option → its value. The types here are those of ``Options``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from bob.catalog.yaml_file import ENDINGS
from bob.cost.table import check_gpu
from bob.errors import BobError, no_file
from bob.options.option import Said
from bob.places import user_path
from bob.sizes import parse_size

_SMALLEST_SIDE, _LARGEST_SIDE = 8, 4096
"""Of images that are fed to a backbone, in pixels."""


def word(said: Said) -> str:
    """The text itself."""
    return said.text


def words(said: Said) -> tuple[str, ...]:
    """Every text."""
    return said.texts


def switch(said: Said) -> bool:
    """Whether it was said."""
    return bool(said.text)


def folder(said: Said) -> Path:
    """A folder, from where it was said."""
    return said.base / user_path(said.text)


def folder_if_any(said: Said) -> Path | None:
    """A folder; None where nobody said one."""
    return folder(said) if said.text else None


def catalog_files(said: Said) -> tuple[Path, ...]:
    """Catalog files, from where they were said."""
    paths = tuple(said.base / user_path(text) for text in said.texts)
    for path, text in zip(paths, said.texts, strict=True):
        if not path.is_file():
            raise BobError(f"{said.name} {text}{said.where}: {no_file(path, endings=ENDINGS)}")
    return paths


def whole_number(least: int) -> Callable[[Said], int]:
    """Parses a whole number of at least ``least``."""

    def parse(said: Said) -> int:
        try:
            value = int(said.text)
        except ValueError:
            value = least - 1
        if value < least:
            raise said.wrong(f"a whole number of at least {least}")
        return value

    return parse


def count_if_any(said: Said) -> int | None:
    """A whole number of at least 1; None where nobody said one."""
    return whole_number(1)(said) if said.text else None


def image_size(said: Said) -> int | Literal["own"] | None:
    """A whole number of pixels, or ``own``; None where nobody said one."""
    if said.text == "own":
        return "own"
    if not said.text:
        return None
    try:
        value = int(said.text)
    except ValueError:
        value = 0
    if not _SMALLEST_SIDE <= value <= _LARGEST_SIDE:
        raise said.wrong(f"pixels from {_SMALLEST_SIDE} to {_LARGEST_SIDE}, or own")
    return value


def hours_if_any(said: Said) -> float | None:
    """A number of hours; None where nobody said one."""
    if not said.text:
        return None
    try:
        value = float(said.text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise said.wrong("a number of hours, such as 24")
    return value


def time_limit(said: Said) -> str | float | None:
    """Seconds; ``auto``, or None for ``off``."""
    if said.text in ("auto", "off"):
        return "auto" if said.text == "auto" else None
    number, unit = said.text[:-1], said.text[-1:]
    try:
        seconds = float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
    except (KeyError, ValueError):
        seconds = -1.0
    if not 0 < seconds < math.inf:
        raise said.wrong("auto, off, or a time such as 90s, 20m or 2h")
    return seconds


def minutes_if_any(said: Said) -> float | None:
    """Minutes; None for ``off``."""
    if said.text == "off":
        return None
    try:
        minutes = float(said.text)
    except ValueError:
        minutes = -1.0
    if not 0 <= minutes < math.inf:
        raise said.wrong("off, or a number of minutes such as 5 or 0.5")
    return minutes


def size(said: Said) -> int:
    """Bytes."""
    try:
        return parse_size(said.text)
    except BobError:
        raise said.wrong("a number of bytes such as 500MB or 20GB") from None


def gpu(said: Said) -> str:
    """A GPU as the table of throughputs spells it."""
    return check_gpu(said.text)


def pairs(said: Said) -> Mapping[str, str]:
    """``KEY=VALUE`` texts as a mapping."""
    found: dict[str, str] = {}
    for text in said.texts:
        key, sign, value = text.partition("=")
        if not sign or not key.isidentifier():
            raise BobError(
                f"{said.name} {text!r}{said.where}: expected KEY=VALUE, such as workers=4."
            )
        if key in found:
            raise BobError(
                f"{said.name}{said.where}: {key!r} is given twice ({found[key]!r} and {value!r})."
            )
        found[key] = value
    return found
