"""Imports go downward only: the order of the rooms, read off the imports themselves."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bob"

FLOORS = (
    # what the ground stands on
    ("regular_files",),
    # the ground: standard library and pydantic
    ("redaction",),
    (
        "__version__",
        "errors",
        "exits",
        "fingerprint",
        "gitinfo",
        "hashing",
        "interrupts",
        "intervals",
        "json_data",
        "kinds",
        "memory",
        "shared_folders",
        "shown",
        "startup",
        "threads",
    ),
    ("places",),
    ("file_digests", "objects", "record", "sizes", "tabular"),
    # declarations: what is measured, on what, with what
    ("protocols",),
    ("catalog",),
    ("case", "fetching"),
    ("plan",),
    # parts that need torch
    ("distributed",),
    ("backbones", "checkpoints", "datasets"),
    ("job",),
    ("metrics", "retrieval", "training"),
    ("detection", "features", "heads"),
    ("artifacts",),
    ("tasks",),
    ("run",),
    # around a run
    ("executors", "ledger", "references"),
    ("cost", "evaluation", "reuse", "tracking"),
    ("evaluator", "exchange", "report"),
    # the shell
    ("hooks", "options", "progress", "telling"),
    ("standings",),
    ("case_limits",),
    ("session",),
    ("closing",),
    ("pytest_plugin",),
    ("cli",),
    # the package's own face, which gathers names from every floor
    ("__init__",),
)
"""Rooms from the lowest to the highest floor; a room imports itself and lower floors alone."""

HEIGHT = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def imports(path: Path, package: Path) -> Iterator[tuple[int, str]]:
    """Line and room of every import of the package in a file, those for types among them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            module = node.module or ""
            own = module == package.name
            names = [f"{module}.{alias.name}" for alias in node.names] if own else [module]
        for name in names:
            parts = name.split(".")
            if parts[0] == package.name and len(parts) > 1:
                yield node.lineno, parts[1]


def upward(package: Path) -> list[str]:
    """What breaks the order, a line each that names file and line."""
    found = []
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        room = relative.parts[0].removesuffix(".py")
        if room not in HEIGHT:
            found.append(f"{package.name}/{relative}: room {room!r} has no floor in FLOORS")
            continue
        for line, target in imports(path, package):
            if target != room and HEIGHT.get(target, len(FLOORS)) >= HEIGHT[room]:
                found.append(f"{package.name}/{relative}:{line}: {room} imports {target}")
    return found


def test_imports_go_downward_only() -> None:
    found = upward(PACKAGE)
    assert not found, "imports that do not go downward:\n" + "\n".join(found)


def test_every_floor_is_inhabited() -> None:
    rooms = {path.name.removesuffix(".py") for path in PACKAGE.iterdir()}
    assert HEIGHT.keys() - rooms <= {"__version__"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("import bob.tasks.knn\n", 1),
        ("from typing import Any\n\nfrom bob.evaluator import Evaluator\n", 3),
        ("from bob import case, session\n", 1),
        ("def late():\n    from bob.run import run_case\n", 2),
    ],
)
def test_an_upward_import_is_named_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    room = tmp_path / "bob" / "training"
    room.mkdir(parents=True)
    (room / "wrong.py").write_text(text)
    (found,) = upward(tmp_path / "bob")
    assert found.startswith(f"bob/training/wrong.py:{line}: training imports ")


def test_the_architecture_names_every_room() -> None:
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    absent = [room for room in HEIGHT if not room.startswith("__") and f"`{room}" not in text]
    assert not absent, f"docs/architecture.md does not tell of {', '.join(absent)}"
