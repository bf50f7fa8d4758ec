"""Pictures and tables take classes, backbones and datasets of any name."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bob.artifacts.making import make
from bob.case import Case, Outcomes, Result, Status, Verdict
from bob.tabular import csv_bytes
from tests.conftest import MakeResult
from tests.photos import picture
from tests.store_parts import ledger_of, runs_of

ODD_NAMES = (
    "$10_$20", "a_b^c{", "\\frac{1}{2}$x$", "100% {x}", "", "a\nb\x1b[31mred", "日本語の猫",
    "日本人の猫", "كلب", "हिन्दी", "😀", "#&~", "x" * 5000, "\udcff", "\u202eevil", "$",
)  # fmt: skip


def odd_result(case: Case, make_result: MakeResult) -> Result:
    """A result whose classes, backbone and dataset have odd names."""
    random = np.random.default_rng(0)
    count, classes = 400, len(ODD_NAMES)
    targets = random.integers(0, classes, count)
    top = np.stack([random.permutation(classes)[:5] for _ in range(count)]).astype(np.int32)
    outcomes = Outcomes(
        targets=targets,
        target_log_probabilities=np.full(count, -1, np.float32),
        top_classes=top,
        top_probabilities=np.full((count, 5), 0.2, np.float32),
        square_sums=np.full(count, 0.2, np.float32),
        class_names=ODD_NAMES,
    )
    odd = replace(
        case,
        backbone=case.backbone.model_copy(update={"key": "$a_$b \\x {y} %s \x1b[31m" + "k" * 60}),
        dataset=case.dataset.model_copy(update={"key": "folder:日本$1$_^"}),
    )
    return replace(
        make_result(odd, 0.5),
        outcomes=outcomes,
        history=({"train_loss": 2.0, "loss_$x$": 1.0, "top1": 0.1},) * 2,
    )


def size_of(content: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        return image.size


def test_every_picture_takes_every_name_literally(
    tiny_case: Case, make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    import matplotlib

    from bob.artifacts import plots
    from bob.artifacts.classes import outcome_files
    from bob.artifacts.lettering import label
    from bob.artifacts.panels import PanelRow, retrieval_panel
    from bob.artifacts.seeds import seeds_picture
    from bob.heads.probe import PathPoint

    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)  # as a user's matplotlibrc may
    result = odd_result(tiny_case, make_result)
    assert result.outcomes is not None
    made = make(outcome_files(result.outcomes))
    assert not made.left_out
    result = replace(result, files=made.files, metrics={**result.metrics, "worst_class_top1": 0.1})
    case = result.case
    image = torch_image()
    rows = [
        PanelRow(image, f"{label(name, 16)}\n3 of 10", [(image, "right")]) for name in ODD_NAMES
    ]
    path = [
        PathPoint(c=10.0**power, top1=0.5, loss=1.0, expected_loss=1.1) for power in range(-6, 6)
    ]
    verdict = Verdict(status=Status.PASS, reason="")
    cells = [(name, severity, 0.5) for name in ODD_NAMES for severity in (1, 2)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a glyph that no font has is a warning
        contents = {
            "confusion.png": lambda: plots.confusion_matrix(result),
            "curve.png": lambda: plots.learning_curve(result),
            "path.png": lambda: plots.regularisation_path(case, path, 1.0),
            "shift.png": lambda: plots.shift_picture(case, cells, 0.7),
            "seeds.png": lambda: seeds_picture(case, [result, result], verdict),
            "panel.png": lambda: retrieval_panel(case, rows, "mAP 0.5"),
        }
        drawn = make(contents)
    assert drawn.left_out == ()
    assert all(min(size_of(content)) > 100 for content in drawn.files.values())


def torch_image() -> Any:
    import torch

    return torch.zeros(3, 32, 32, dtype=torch.uint8)


def test_a_dollar_is_drawn_as_a_dollar() -> None:
    from matplotlib.figure import Figure

    from bob.artifacts.lettering import png

    def drawn(text: str) -> bytes:
        figure = Figure(figsize=(2, 1))
        figure.text(0.1, 0.5, text)
        return png(figure)

    assert drawn("$10$") != drawn("10"), "as a formula it would lose its signs"
    figure = Figure(figsize=(2, 1))
    figure.text(0.1, 0.5, "\\$10\\$", parse_math=True)
    assert size_of(png(figure)) == size_of(drawn("$10$"))


def test_names_stay_apart_in_pictures() -> None:
    from bob.artifacts.lettering import label, labels

    assert label("日本") == "\\u65e5\\u672c" or label("日本") == "日本"  # where a font has it
    assert label("") == "(no name)"
    assert label("a\n\x1bb") == "a \\x1bb"
    assert label("\x00") == "\\x00"
    assert len(label("y" * 5000, 16)) == 16
    names = ["very_long_prefix_of_a_class_x_0001", "very_long_prefix_of_a_class_y_0001", "other"]
    shown = labels(names, 12)
    assert len(set(shown)) == 3
    assert shown[0].startswith("0: ")
    assert shown[2] == "other"
    assert all(len(text) <= 12 for text in shown)


def test_an_artifact_that_fails_costs_itself_alone() -> None:
    def broken() -> bytes:
        raise ValueError("no \x1b[31mfont\n" + "z" * 5000)

    made = make({
        "good.csv": b"1", "bad.png": broken, "none.png": lambda: None, "later.csv": lambda: b"2",
        "../outside": b"3", "n\x00ul": b"4", "a/b.csv": b"5", "x" * 300: b"6", "": b"7",
    })  # fmt: skip
    assert made.files == {"good.csv": b"1", "later.csv": b"2", "a/b.csv": b"5"}
    assert len(made.left_out) == 5
    (told,) = [text for text in made.left_out if text.startswith("bad.png")]
    assert "ValueError" in told
    assert "\x1b" not in told
    assert "\n" not in told
    assert len(told) < 300


def test_tables_take_names_that_are_not_text() -> None:
    assert b"\\udcff" in csv_bytes(("class",), [["\udcff"]])


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder of images whose classes are called what users call them."""
    names = ("$10_$20", "a\x1b[31mb_|<b>", "日本")
    colours = ((40, 60, 220), (40, 200, 60), (220, 40, 40))
    for number, (name, colour) in enumerate(zip(names, colours, strict=True)):
        for split, count in (("train", 8), ("test", 4)):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for image in range(count):
                picture(colour, 100 * number + image + 50 * (split == "test")).save(
                    folder / f"{image}.png"
                )
    return tmp_path / "photos"


@pytest.mark.slow
def test_classes_of_any_name_are_kept_and_shown(
    project: pytest.Pytester, own_store: tuple[str, str], photographs: Path
) -> None:
    words = ["--dataset", f"folder:{photographs}", "--backbone", "pixels_coarse"]
    result = project.runpytest_inprocess(*words, *own_store)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*pixels_coarse *finetune *top1*"])
    assert "\x1b[31mb_" not in result.stdout.str()
    (run,) = runs_of(own_store[1])
    assert run.info.status == "FINISHED"
    assert "bob.left_out" not in run.data.tags
    assert not any("\x1b" in value for value in run.data.tags.values())
    (entry,) = ledger_of(project).entries()
    assert entry.result.outcomes is not None
    assert "$10_$20" in entry.result.outcomes.class_names
