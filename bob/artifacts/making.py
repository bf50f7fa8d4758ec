"""Artifacts made one by one, at the one place where one that cannot be made is let go.

A table or a picture is worth less than the result it shows: whatever its making raises costs that
artifact and is told, and the rest stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bob.artifacts.names import REFUSED, is_artifact_name
from bob.case import Content
from bob.errors import BobError
from bob.shown import line


@dataclass(frozen=True)
class Made:
    """Artifacts by name, and what could not be made.

    Attributes:
        files: Those that were made.
        left_out: A remark on each of the others, which names it and the error.
    """

    files: Mapping[str, bytes]
    left_out: tuple[str, ...] = ()


def make(contents: Mapping[str, Content]) -> Made:
    """Make every artifact; one that fails is left out and told.

    Args:
        contents: By name: bytes, or a function that gives them, or none where there is nothing to
            show.
    """
    files: dict[str, bytes] = {}
    left_out = []
    for name, content in contents.items():
        try:
            if not is_artifact_name(name):
                raise BobError(REFUSED)
            made = content() if callable(content) else content
            if made is not None:
                files[name] = bytes(made)
        except Exception as error:
            reason = line(f"{type(error).__name__}: {error}")
            left_out.append(f"{line(name, limit=80)} was left out: {reason}")
    return Made(files, tuple(left_out))
