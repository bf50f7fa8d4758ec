"""Columns of a table that the library ``datasets`` reads: which holds images, which classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bob.catalog.image_folder import held_back
from bob.errors import BobError

LABEL_NAMES = ("label", "labels", "cls", "class")

Labelled = list[tuple[int, Any]]
"""Rows and the names of their classes."""


def named(names: Any) -> str:
    """Names for a message."""
    return ", ".join(repr(name) for name in names) or "none"


def column_of(
    path: str, features: Any, what: str, given: str, kind: str, usual: Sequence[str]
) -> str:
    """The one column of a type, unless it is given; else the one of a usual name.

    Raises:
        BobError: There is none, or there are several.
    """
    if given:
        if given not in features:
            raise BobError(
                f"{path} has no column {given!r}; there is {named(features)}.", kind="dataset"
            )
        return given
    fitting: list[str] = [
        name for name, feature in features.items() if type(feature).__name__ == kind
    ]
    fitting = fitting or [name for name in usual if name in features]
    if len(fitting) != 1:
        problem = f"several {what} columns ({named(fitting)})" if fitting else f"no {what} column"
        raise BobError(
            f"{path} has {problem} of type {kind}; its columns are {named(features)}. Name one "
            f"with {what}=.",
            kind="dataset",
        )
    return fitting[0]


def _values(table: Any, target: str) -> list[Any]:
    """A column of labels, each a name; -1 and nothing are the hub's words for unknown."""
    feature, values = table.features[target], table.with_format(None)[target][:]
    if type(feature).__name__ == "ClassLabel":
        names = feature.names
        return [None if value is None or value < 0 else names[value] for value in values]
    return [None if value is None or value == -1 else value for value in values]


def labelled(table: Any, target: str) -> bool:
    """Whether any row of a split has a label."""
    return target in table.features and any(value is not None for value in _values(table, target))


def labels_of(path: str, name: str, table: Any, target: str) -> list[Any]:
    """The class of every row of a split, as a name or a number.

    Raises:
        BobError: A row has none, or values are no classes.
    """
    if target not in table.features:
        raise BobError(f"{path}: split {name!r} has no column {target!r}.", kind="dataset")
    values = _values(table, target)
    unknown = sum(value is None for value in values)
    if unknown or not values:
        raise BobError(
            f"{path}: {unknown} of {len(values)} rows of split {name!r} have no label. Name "
            "another split, or label them.",
            kind="dataset",
        )
    odd = next((value for value in values if not isinstance(value, str | int)), None)
    if odd is not None:
        raise BobError(
            f"{path}: column {target!r} holds {type(odd).__name__} values, one class an image is "
            "wanted. Name another column with label=.",
            kind="dataset",
        )
    return values


def divided(labels: Sequence[Any], share: float, seed: int) -> tuple[Labelled, Labelled]:
    """Rows to learn from and rows held back, by a fixed draw within each class."""
    by_class: dict[Any, list[int]] = {}
    for row, name in enumerate(labels):
        by_class.setdefault(name, []).append(row)
    held = {
        rows[position]
        for name, rows in by_class.items()
        for position in held_back([f"{name}/{row}" for row in rows], share, seed)
    }
    rows = list(enumerate(labels))
    return [pair for pair in rows if pair[0] not in held], [
        pair for pair in rows if pair[0] in held
    ]


def class_names_of(path: str, feature: Any, learnt: Labelled, held: Labelled) -> list[Any]:
    """Classes of the train split, in the dataset's own order where it has one."""
    present = {name for _, name in learnt}
    unlearnt = sorted({str(name) for _, name in held if name not in present})
    if unlearnt:
        raise BobError(
            f"{path}: the test split has images of {named(unlearnt[:3])} and the train split has "
            "none. Name other splits with train= and split=.",
            kind="dataset",
        )
    if len(present) < 2 or not held:
        raise BobError(
            f"{path} has {len(present)} classes and {len(held)} test images; two classes and one "
            "test image are the least.",
            kind="dataset",
        )
    own = getattr(feature, "names", None)
    return [name for name in own if name in present] if own else sorted(present)
