"""The backbones as a Markdown table."""

from __future__ import annotations

from collections.abc import Iterable

from bob.catalog.schema import BackboneEntry
from bob.protocols import PROTOCOLS
from bob.shown import markdown_cell

_HEADERS = (
    "backbone", "architecture", "pretraining", "weights", "licence", "parameters", "image",
    "tasks", "paper",
)  # fmt: skip
_DETECTION = tuple(name for name in PROTOCOLS if PROTOCOLS[name].data.startswith("detection"))
_OTHERS = tuple(name for name in PROTOCOLS if name not in _DETECTION)


def backbone_table(entries: Iterable[BackboneEntry]) -> str:
    """One row per entry, by key: what it is, where its weights come from, what it is made for."""
    rows = [
        [markdown_cell(cell) for cell in _row(entry)]
        for entry in sorted(entries, key=lambda entry: entry.key)
    ]
    rule = ["---", "---", "---", "---", "---", "---:", "---:", "---", "---"]
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(_HEADERS), rule, *rows])


def _row(entry: BackboneEntry) -> list[str]:
    parameters = f"{entry.parameters_m:.2f} M" if entry.parameters_m else "–"
    return [
        f"`{entry.key}`",
        entry.architecture or entry.family,
        entry.pretraining,
        _weights(entry),
        (entry.licence or "–") + (" (**non-commercial**)" if entry.non_commercial else ""),
        parameters,
        str(entry.image_size or "–"),
        _tasks(entry),
        "yes" if entry.paper else "",
    ]


def _weights(entry: BackboneEntry) -> str:
    if entry.weights is not None and entry.weights.url:
        return f"[{entry.weights.url.rsplit('/', 1)[-1]}]({entry.weights.url})"
    if entry.weights is not None and entry.weights.package:
        return f"[{entry.weights.distribution}]({entry.url})"
    if entry.weights is not None:
        return "shipped" if entry.weights.sha256 else "file"
    if not entry.fixed:
        return "none"
    return f"[{entry.source.removeprefix('timm:')}]({entry.url})" if entry.url else entry.source


def _tasks(entry: BackboneEntry) -> str:
    taken = {name for name in PROTOCOLS if entry.takes(name)}
    if taken == set(PROTOCOLS):
        return "all"
    if taken == set(_OTHERS):
        return "all but detection"
    if taken == set(_DETECTION):
        return "detection"
    return ", ".join(sorted(taken))
