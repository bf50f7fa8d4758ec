"""What YAML can say and a catalog cannot, refused with its line before anything is made of it.

An alias is a second reference to the same node. A file of a few lines can refer to itself, or have
more values than memory once every alias is followed.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from bob.errors import BobError, first_line

MOST_VALUES = 100_000
"""Values of a file with every alias followed."""

DEEPEST = 50
"""Lists and mappings within each other."""

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_NUMBERS = (f"{_TAG}int", f"{_TAG}float")
_LARGEST = 2**63
_LONGEST = 1000
"""Characters of a number; what YAML reads to the base of 60 takes ever longer."""
_ANOTHER_NUMBER = re.compile(r"[-+]?0[0-7_]+|.*:.*")
"""What YAML 1.1 reads to the base of 8 or 60: ``010`` and ``1:30``."""


def check_nodes(path: Path, root: Any, loader: Any) -> None:
    """Refuse duplicate keys, keys that are no names, endless aliases and odd values.

    Args:
        path: The file, named in errors.
        root: Its root node; none where it is empty.
        loader: What makes values of scalar nodes.

    Raises:
        BobError: Names file and line.
    """
    if root is not None:
        _Walk(path, loader).size(root, 0)


class _Walk:
    """One visit to each node, however often it is referred to."""

    def __init__(self, path: Path, loader: Any) -> None:
        self._path, self._loader = path, loader
        self._known: dict[int, tuple[int, int]] = {}
        self._inside: set[int] = set()

    def size(self, node: Any, above: int) -> tuple[int, int]:
        """How many values a node is with every alias followed, and how deep they lie in it."""
        if isinstance(node, yaml.ScalarNode):
            self._check_value(node)
            return 1, 0
        key = id(node)
        if key in self._inside:
            raise self._error(node, "it refers to itself; write out what is meant")
        if key not in self._known:
            self._check_tag(node)
            self._inside.add(key)
            self._known[key] = self._added(node, above)
            self._inside.discard(key)
        values, depth = self._known[key]
        if values > MOST_VALUES:
            raise self._error(node, f"with its aliases it has more than {MOST_VALUES:,} values")
        if above + depth > DEEPEST:
            raise self._error(node, f"it is nested more than {DEEPEST} deep")
        return values, depth

    def _added(self, node: Any, above: int) -> tuple[int, int]:
        if above >= DEEPEST:
            raise self._error(node, f"it is nested more than {DEEPEST} deep")
        values, depth, children = 1, 1, node.value
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
            children = [value for _, value in node.value]
        for inner in children:
            more, below = self.size(inner, above + 1)
            values, depth = values + more, max(depth, below + 1)
        return values, depth

    def _check_keys(self, node: Any) -> None:
        """Names, each given once: YAML lets a later key replace an earlier one in silence."""
        seen: dict[str, int] = {}
        for name, _ in node.value:
            line = name.start_mark.line + 1
            if not isinstance(name, yaml.ScalarNode):
                raise self._error(name, "a key is a list or mapping; write a name")
            if name.tag != _MERGE:
                self._check_value(name)
            if name.value in seen:
                first = seen[name.value]
                raise BobError(f"{self._path}:{line}: {name.value}: already given on line {first}.")
            seen[name.value] = line

    def _check_tag(self, node: Any) -> None:
        kind = "map" if isinstance(node, yaml.MappingNode) else "seq"
        if node.tag != f"{_TAG}{kind}":
            raise self._error(
                node,
                f"a catalog has no use for the tag {_short(node.tag)!r}; leave it out",
            )

    def _check_value(self, node: Any) -> None:
        shown = repr(node.value[:40])
        if node.tag in _NUMBERS and len(node.value) > _LONGEST:
            raise self._error(node, f"{shown} is too long a number")
        try:
            value = self._loader.construct_object(node)
        except yaml.YAMLError:
            raise
        except Exception as error:  # the reader's own conversions check little
            raise self._error(
                node, f"{shown} is no {_short(node.tag)} ({first_line(error)})"
            ) from None
        if not isinstance(value, str | int | float | None):
            raise self._error(node, f"{shown} is read as a {_short(node.tag)}; write it in quotes")
        # before it is written out: Python writes no number of thousands of digits
        if isinstance(value, int) and abs(value) >= _LARGEST:
            raise self._error(node, f"{shown} is too large a number")
        if isinstance(value, int | float) and _ANOTHER_NUMBER.fullmatch(node.value):
            raise self._error(node, f"{shown} is read as {value}; write that, or put it in quotes")
        if isinstance(value, float) and not math.isfinite(value):
            raise self._error(node, f"{shown} is no finite number")

    def _error(self, node: Any, text: str) -> BobError:
        return BobError(f"{self._path}:{node.start_mark.line + 1}: not a catalog: {text}.")


def _short(tag: str) -> str:
    return tag.removeprefix(_TAG)
