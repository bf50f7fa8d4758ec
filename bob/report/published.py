"""Scores that others published: which of them count, and what is told of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from bob.errors import some
from bob.ledger.score import PUBLISHED, Score

_Key = tuple[str, str, str, str]
"""Backbone, setting, scale and metric."""

_PREFIX = "published: "


def measured_first(scores: Iterable[Score]) -> list[Score]:
    """Scores without the published ones that something better stands for.

    A published score counts where nothing was measured. Of several protocols of one backbone and
    setting one counts: that at the largest image size, as a table has a checkpoint at several; of
    those the one that most backbones were scored with, so that they can be compared; then a frozen
    one before a fine-tuned one, and the first by its words. Of several scores of one protocol and
    seed the newest counts.
    """
    kept: list[Score] = []
    published: dict[_Key, list[Score]] = {}
    measured: set[_Key] = set()
    for score in scores:
        if score.role == PUBLISHED:
            published.setdefault(_key(score), []).append(score)
        else:
            measured.add(_key(score))
            kept.append(score)
    users = _users(published)
    for key, rows in published.items():
        if key not in measured:
            kept += _counting(rows, users)
    return kept


def published_remarks(scores: Iterable[Score], shown: Sequence[Score]) -> Iterator[str]:
    """What a reader of a board should know of its published scores: a sentence for each metric.

    Args:
        scores: All that there are.
        shown: Those of the board.
    """
    chosen = {(_key(row), row.protocol): row for row in shown if row.role == PUBLISHED}
    taken: dict[str, Counter[str]] = {}
    for (_, protocol), row in chosen.items():
        taken.setdefault(f"{row.setting} {row.metric}", Counter())[protocol] += 1
    keys = {key for key, _ in chosen}
    others: dict[str, set[tuple[str, str]]] = {}
    for row in scores:
        key = _key(row)
        if row.role == PUBLISHED and key in keys and (key, row.protocol) not in chosen:
            named = f"{row.setting} {row.metric}"
            others.setdefault(named, set()).add((row.backbone, row.protocol))
    for name, protocols in sorted(taken.items()):
        ways = [
            f"{count} by {protocol.removeprefix(_PREFIX)!r}"
            for protocol, count in sorted(protocols.items(), key=lambda way: (-way[1], way[0]))
        ]
        left = len(others.get(name, ()))
        passed = f"; {left} of other protocols of the same backbones are not shown" if left else ""
        count = sum(protocols.values())
        are = "score is" if count == 1 else "scores are"
        yield (
            f"{name}: {count} {are} published by others and not measured here: "
            f"{some(ways)}{passed}."
        )


def _counting(rows: Sequence[Score], users: Mapping[tuple[str, ...], int]) -> Iterator[Score]:
    """Of the published rows of one backbone and setting those that count, one a seed."""
    newest_first = sorted(rows, key=lambda row: row.environment)
    newest_first.sort(key=lambda row: row.time, reverse=True)
    first = min(
        newest_first,
        key=lambda row: (
            -_side(row), -users[_way(row)], "fine-tuned" in row.protocol, row.protocol,
        ),
    )  # fmt: skip
    by_seed: dict[int, Score] = {}
    for row in newest_first:
        if (row.protocol, row.data, row.weights) == (first.protocol, first.data, first.weights):
            by_seed.setdefault(row.seed, row)
    yield from by_seed.values()


def _users(published: Mapping[_Key, Sequence[Score]]) -> dict[tuple[str, ...], int]:
    """How many backbones have a score of a protocol in a setting."""
    found: dict[tuple[str, ...], set[str]] = {}
    for rows in published.values():
        for row in rows:
            found.setdefault(_way(row), set()).add(row.backbone)
    return {way: len(backbones) for way, backbones in found.items()}


def _key(score: Score) -> _Key:
    return score.backbone, score.setting, score.scale, score.metric


def _way(score: Score) -> tuple[str, ...]:
    return score.setting, score.scale, score.metric, score.protocol


def _side(score: Score) -> int:
    """Image size that a published score tells; 0 where it tells none."""
    found = re.search(r"\b(\d{2,4})px\b", score.protocol)
    return int(found[1]) if found else 0
