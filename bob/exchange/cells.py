"""Cells of a table that others published."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bob.catalog import BackboneEntry, Catalog
from bob.exchange.checks import refusal

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")


@dataclass(frozen=True)
class Place:
    """Where a cell stands, for errors."""

    path: Path
    row: int

    def number(self, column: str, text: str) -> float:
        """The number of a cell, written with a point and no commas."""
        if not _NUMBER.fullmatch(text):
            raise refusal(str(self.path), self.row, column, f"{text!r} is no number")
        return float(text)

    def whole(self, column: str, text: str) -> int:
        """The number of a cell that counts something."""
        if not re.fullmatch(r"\d{1,9}", text):
            raise refusal(str(self.path), self.row, column, f"{text!r} is no whole number")
        return int(text)

    def percent(self, column: str, text: str) -> float:
        """A share of 100, as a fraction."""
        number = self.number(column, text)
        if not 0 <= number <= 100:
            raise refusal(str(self.path), self.row, column, f"{text} is no share of 100")
        return round(number / 100, 12)


class Checkpoints:
    """Which backbone of the catalog a published name means."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._by_timm = {
            _timm_name(entry.source): entry
            for entry in catalog.backbones.values()
            if entry.source.startswith("timm:") and entry.weights is None
            and set(entry.arguments) <= {"pretrained", "num_classes"}
            and entry.arguments.get("pretrained", True)
        }  # fmt: skip

    def of_timm(self, name: str) -> tuple[str, BackboneEntry | None]:
        """Key of a checkpoint of timm, as ``--backbone timm:NAME`` has it outside the catalog."""
        entry = self._by_timm.get(name)
        return (entry.key, entry) if entry else (f"timm:{name}", None)

    def of_name(self, name: str) -> tuple[str, BackboneEntry | None]:
        """Key of what is a catalog key, a checkpoint of timm in the catalog, or neither."""
        entry = self._catalog.backbones.get(name) or self._by_timm.get(name)
        return (entry.key, entry) if entry else (name, None)


def _timm_name(source: str) -> str:
    return source.removeprefix("timm:").removeprefix("hf-hub:timm/")
