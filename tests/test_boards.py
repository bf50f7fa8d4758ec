"""The boards in the documents are those of the references that are shipped."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from bob.cli import main
from bob.references.files import BUILTIN

ROOT = Path(__file__).parents[1]
BOARDS = ROOT / "docs" / "boards"


def board_from(folder: Path, scale: str, references: Path | None = None) -> tuple[str, list[str]]:
    """A board's Markdown, and the rows of its CSV file."""
    text, table, page = (folder / f"board.{ending}" for ending in ("md", "csv", "html"))
    command = ["report", "--from", "references", "--scale", scale]
    command += [f"--references={references}"] if references else []
    assert main([*command, "-o", str(text), "-o", str(table), "-o", str(page)]) == 0
    assert f"Battle of the backbones: {scale}" in page.read_text(encoding="utf-8")
    return text.read_text(encoding="utf-8"), table.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("scale", ["smoke", "laptop"])
def test_the_committed_board_is_that_of_the_references(tmp_path: Path, scale: str) -> None:
    text, table = board_from(tmp_path, scale)
    again = (
        f"docs/boards is of other references. Write it again: bob report --from references "
        f"--scale {scale} -o docs/boards/{scale}.md -o docs/boards/{scale}.csv"
    )
    assert text == (BOARDS / f"{scale}.md").read_text(encoding="utf-8"), again
    assert table == (BOARDS / f"{scale}.csv").read_text(encoding="utf-8").splitlines(), again


@pytest.mark.parametrize("scale", ["smoke", "laptop"])
def test_every_reference_of_a_scale_is_on_its_board(scale: str) -> None:
    measured = {
        (json.loads(path.read_text(encoding="utf-8"))["backbone"], setting)
        for path in (BUILTIN / scale).glob("*.json")
        for setting in json.loads(path.read_text(encoding="utf-8"))["settings"]
    }
    with (BOARDS / f"{scale}.csv").open(encoding="utf-8", newline="") as file:
        shown = [(row["backbone"], row["setting"]) for row in csv.DictReader(file)]
    assert len(shown) == len(set(shown))
    assert set(shown) == measured


def test_a_reference_that_moves_is_another_board(tmp_path: Path) -> None:
    own = tmp_path / "own" / "smoke"
    shutil.copytree(BUILTIN / "smoke", own)
    path = own / "resnet_micro_glyphs.json"
    shipped = json.loads(path.read_text(encoding="utf-8"))
    for run in shipped["settings"]["knn/digits"]["values"].values():
        run["top1"] -= 0.02
    path.write_text(json.dumps(shipped), encoding="utf-8")
    text, table = board_from(tmp_path, "smoke", own.parent)
    assert text != (BOARDS / "smoke.md").read_text(encoding="utf-8")
    changed = set(table) ^ set((BOARDS / "smoke.csv").read_text(encoding="utf-8").splitlines())
    scores = {(row[0], row[8]) for row in csv.reader(sorted(changed))}
    assert ("resnet_micro_glyphs", "knn/digits") in scores
