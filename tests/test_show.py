"""``bob show``: what a case is fed is what the backbone gets, and earlier answers are framed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bob.artifacts.seen import RIGHT, UNKNOWN, WRONG
from bob.backbones import build_backbone
from bob.case import Case, Context
from bob.catalog import Catalog
from bob.cli import main
from bob.datasets import ClassificationData, load_dataset
from bob.features.extract import fed
from bob.plan import Plan, Selection
from bob.run import run_case
from bob.run.seen import seen
from bob.training.data import normalised

BACKBONE = "resnet_micro_glyphs"


def cases(catalog: Catalog, *tasks: str) -> list[Case]:
    plan = Plan(catalog, Selection(backbones=(BACKBONE,)))
    return [plan.cases(task)[0] for task in tasks]


def frames(content: bytes) -> set[str]:
    """Colours of frames in a picture."""
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).reshape(-1, 3)
    found = {f"#{r:02x}{g:02x}{b:02x}" for r, g, b in np.unique(pixels, axis=0)}
    return found & {UNKNOWN, RIGHT, WRONG}


def test_the_images_are_those_that_the_backbone_gets(catalog: Catalog) -> None:
    (case,) = cases(catalog, "knn")
    data = load_dataset(case.dataset)
    assert isinstance(data, ClassificationData)
    backbone = build_backbone(case.backbone, image_size=case.recipe.input_size)
    shown = fed(backbone, data.test.part(range(20)))
    assert shown.dtype == torch.uint8
    assert len({image.numpy().tobytes() for image in shown}) == 20
    again = normalised(shown, backbone)
    expected = normalised(data.test.images[:20], backbone)  # type: ignore[union-attr]
    torch.testing.assert_close(again, expected, rtol=0, atol=0.02)


@pytest.mark.slow
def test_every_protocol_has_a_picture(catalog: Catalog) -> None:
    for case in cases(catalog, "knn", "low_shot", "ood", "retrieval", "detection", "finetune"):
        picture = Image.open(io.BytesIO(seen(case)))
        assert picture.width > 400, case.task
        assert len(np.unique(np.asarray(picture.convert("L")))) > 30


def test_an_earlier_run_frames_right_and_wrong(catalog: Catalog) -> None:
    (case,) = cases(catalog, "knn")
    result = run_case(case, Context(accelerator="cpu", workers=0))
    assert frames(seen(case)) == {UNKNOWN}
    assert frames(seen(case, result.outcomes)) == {UNKNOWN, RIGHT, WRONG}


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    chosen = ["--backbone", BACKBONE, "--task", "knn"]
    assert main(["show", *chosen, "-o", "pictures"]) == 0
    (path,) = (tmp_path / "pictures").iterdir()
    assert path.name == f"knn-{BACKBONE}-digits.png"
    assert capsys.readouterr().out.strip() == f"pictures/{path.name}"
    (tmp_path / "file").write_text("")
    for words, told in (
        ([], "cases are selected"),
        ([*chosen, "-k", "nothing_like_it"], "No case is selected"),
        ([*chosen, "-o", "file"], "Cannot write file/"),
        (["--backbone", "resnet_micro_gliphs"], "Did you mean"),
        (
            ["--backbone", BACKBONE, "--dataset", "dtd", "--task", "knn"],
            "knn[resnet_micro_glyphs-dtd]",
        ),
    ):
        assert main(["show", *words]) == 2
        assert told in capsys.readouterr().err
