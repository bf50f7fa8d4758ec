"""A name says what it holds: words that say nothing are refused, with file and line."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("bob", "suites", "tests", "benchmarks", "scripts", "examples", "docs")
EMPTY = frozenset({"one", "thing", "stuff", "foo"})
"""Words that tell a reader nothing about the value behind them."""

FIELDS = ("id", "arg", "attr", "name", "asname", "rest")
"""Where the syntax tree keeps the names that a file gives or uses."""


def empty_names(text: str) -> Iterator[tuple[int, str]]:
    """Line and name of every variable, parameter, attribute or definition of an empty name."""
    for node in ast.walk(ast.parse(text)):
        for field in FIELDS:
            name = getattr(node, field, None)
            if isinstance(name, str) and name in EMPTY:
                yield getattr(node, "lineno", 0), name
        if isinstance(node, ast.Global | ast.Nonlocal):
            yield from ((node.lineno, name) for name in node.names if name in EMPTY)


def test_a_name_says_what_it_holds() -> None:
    paths = [ROOT / "conftest.py"]
    for folder in FOLDERS:
        paths += sorted((ROOT / folder).rglob("*.py"))
    assert len(paths) > 300
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in paths
        for line, name in sorted(set(empty_names(path.read_text(encoding="utf-8"))))
    ]
    assert not found, "names that do not say what they hold:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("one = 1\n", 1),
        ("rows = [\n    thing.name\n    for thing in []\n]\n", 2),
        ("def scaled(values, *, stuff=None):\n    return values\n", 1),
        ("def f(*foo): ...\n", 1),
        ("\n\nsorted([], key=lambda one: 0)\n", 3),
        ("import torch\ntorch.one = 2\n", 2),
        ("import torch as foo\n", 1),
        ("f(\n    1,\n    thing=2,\n)\n", 3),
        ("class Result:\n    def one(self): ...\n", 2),
        ("try: ...\nexcept OSError as stuff: ...\n", 2),
        ("match 1:\n    case [*one]: ...\n", 2),
        ("match 1:\n    case {**one}: ...\n", 2),
    ],
)
def test_an_empty_name_is_found_with_its_line(text: str, line: int) -> None:
    assert min(empty_names(text))[0] == line


def test_words_within_names_and_text_are_left_alone() -> None:
    assert not list(empty_names('one_pass = {"one": "thing"}  # stuff\nnone = [one_pass]\n'))
