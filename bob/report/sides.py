"""Score rows of two sides, brought together setting by setting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from bob.ledger.score import RunId, Score
from bob.ledger.units import Units
from bob.report.cells import cell
from bob.report.comparison import Pair
from bob.report.drawn import Drawing

Key = tuple[str, str, str]
"""Subject, scale, and setting with metric."""


@dataclass(frozen=True, kw_only=True)
class Sides:
    """What can be compared and what cannot.

    Attributes:
        pairs: Settings of both.
        apart: In words, by name, why a setting of both cannot be compared.
        broken: Settings in which a score of the second side is NaN or infinite, and the first has
            one that is not.
        own_recipes: Settings in which two backbones have each a recipe of their own, by name.
        only_before: Settings that the first side alone has, by name.
        only_after: Settings that the second side alone has.
    """

    pairs: tuple[Pair, ...]
    apart: Mapping[str, str] = field(default_factory=dict)
    own_recipes: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    only_before: tuple[str, ...] = ()
    only_after: tuple[str, ...] = ()


def sides(
    before: Iterable[Score],
    after: Iterable[Score],
    *,
    units: Mapping[RunId, Units],
    same_backbones: bool,
    delta: Callable[[Score], float],
    lost: tuple[Iterable[Score], Iterable[Score]] = ((), ()),
    drawing: Drawing | None = None,
) -> Sides:
    """Bring two sides together.

    Args:
        before: Scores proper of the first side; a row a seed, see ``sources.current``.
        after: The same of the second.
        units: Outcomes per image or query, by ``Score.run``.
        same_backbones: Whether a backbone is held against itself; otherwise each side is one
            backbone and they are held against each other.
        delta: The least difference of a score that matters.
        lost: Rows of either side that are NaN or infinite.
        drawing: Where scores that are no mean over images are drawn.
    """
    lost_before, lost_after = (set(_grouped(rows, same_backbones)) for rows in lost)
    first, second = _grouped(before, same_backbones), _grouped(after, same_backbones)
    pairs, apart, own_recipes = [], {}, []
    for key in sorted((first.keys() | lost_before) & (second.keys() | lost_after)):
        if key in lost_before or key in lost_after:
            side = "A" if key in lost_before else "B"
            apart[_name(key)] = f"a score of {side} is NaN or infinite"
            continue
        rows, others = first[key], second[key]
        both = [*rows.values(), *others.values()]
        if len({score.data for score in both} - {""}) > 1:
            apart[_name(key)] = "they were measured on different data"
            continue
        if len({score.protocol for score in both}) > 1:
            if same_backbones:
                apart[_name(key)] = "they were measured under different protocols or recipes"
                continue
            own_recipes.append(_name(key))
        some = next(iter(others.values()))
        pairs.append(
            Pair(
                subject=key[0],
                setting=key[2],
                before=cell([*rows.values()], units, drawing),
                after=cell([*others.values()], units, drawing),
                delta=delta(some),
            )
        )
    return Sides(
        pairs=tuple(pairs),
        apart=apart,
        own_recipes=tuple(own_recipes),
        broken=tuple(_name(key) for key in sorted(lost_after & first.keys() - lost_before)),
        only_before=tuple(_name(key) for key in sorted(first.keys() - second.keys() - lost_after)),
        only_after=tuple(_name(key) for key in sorted(second.keys() - first.keys() - lost_before)),
    )


def _grouped(scores: Iterable[Score], same_backbones: bool) -> dict[Key, dict[int, Score]]:
    found: dict[Key, dict[int, Score]] = {}
    for score in scores:
        subject = score.backbone if same_backbones else ""
        key = subject, score.scale, f"{score.setting} {score.metric}"
        found.setdefault(key, {})[score.seed] = score
    return {key: dict(sorted(rows.items())) for key, rows in found.items()}


def _name(key: Key) -> str:
    return f"{key[0]} {key[2]}".strip()
