"""``bob demo`` from nothing, as somebody does it who has just installed bob."""

from __future__ import annotations

from pathlib import Path

import pytest

from bob.cli import main
from bob.cli.demo import BACKBONES


@pytest.mark.slow
def test_the_demo_ends_in_a_board(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOB_SCALE", "nonsense")  # settings of others are not the demo's
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--nonsense")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -k zzz_nothing\n")
    folder = tmp_path / "try it"
    assert main(["demo", str(folder)]) == 0
    told = capfd.readouterr().out
    assert "9 passed" in told
    assert str(folder / "board.html") in told
    page = (folder / "board.html").read_text("utf-8")
    assert all(f'data-backbone="{key}"' in page for key in BACKBONES)
    (tmp_path / "file").write_text("")
    assert main(["demo", str(tmp_path / "file")]) == 2
    assert "Name another folder" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["notes.txt", "pytest.ini"])
def test_the_demo_leaves_a_folder_of_others_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / name).write_text("mine")
    assert main(["demo", str(tmp_path)]) == 2
    assert f"holds {name}, which no demo wrote" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]
