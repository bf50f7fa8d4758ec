"""``bob plan`` and the limit it shares with pytest: what they print and refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bob.cli import main
from bob.cost import DEFAULT_GPU


def test_references_are_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["--references", str(tmp_path), "--json", "--no-cpu"]
    assert main(["plan", "-k", "knn[VIT", *arguments]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [case["name"] for case in record["cases"]] == [
        "vit_micro_glyphs-digits", "vit_micro_random-digits",
    ]  # fmt: skip
    assert {case["reference"] for case in record["cases"]} == {"yes"}
    assert record["total"]["cases"] == 2
    assert record["gpu"] == DEFAULT_GPU


def test_selection_and_total_line(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plan", "--scale", "full", "--backbone", "timm:resnet50.a1_in1k"]
    assert main([*arguments, "--task", "detection", "--gpu", "rtx 3090"]) == 0
    *_, case, last = capsys.readouterr().out.splitlines()
    assert case.split()[1] == "detection"
    assert last.startswith("scale full: 1 cases, ")
    assert "GPU-hours on RTX 3090 (" in last
    assert main([*arguments, "--max-gpu-hours", "1"]) == 1
    refused = capsys.readouterr().err
    assert "more than --max-gpu-hours 1" in refused
    assert "detection[timm:resnet50.a1_in1k-coco-detectron2]" in refused
    assert main([*arguments, "--max-gpu-hours", "1e6"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu", "RTX 4091"], "Did you mean 'RTX 4090'"),
        (["--task", "finetun"], "Did you mean 'finetune'"),
        (["--seeds", "0"], "--seeds '0'"),
    ],
)
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_pytest_refuses_before_anything_runs(project: pytest.Pytester) -> None:
    done = project.runpytest("--max-gpu-hours", "0", "--progress", "off")
    done.stderr.fnmatch_lines(
        ["*takes about * GPU-hours on RTX 4090*more than --max-gpu-hours 0.*"]
    )
    done.stderr.fnmatch_lines(["*Largest: finetune[[]pixels_*"])
    done.assert_outcomes()
    assert done.ret == pytest.ExitCode.USAGE_ERROR


def test_pytest_starts_within_the_limit(project: pytest.Pytester) -> None:
    done = project.runpytest("--max-gpu-hours", "0.5", "-k", "coarse")
    done.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--max-gpu-hours", "many"), "*--max-gpu-hours 'many': expected a number of hours*"),
        (("--reference-gpu", "RTX 4091"), "*Unknown GPU*Did you mean 'RTX 4090'*"),
    ],
)
def test_pytest_options_are_checked(
    project: pytest.Pytester, arguments: tuple[str, ...], message: str
) -> None:
    done = project.runpytest(*arguments)
    done.stderr.fnmatch_lines([message])
    assert done.ret == pytest.ExitCode.USAGE_ERROR


def test_words_select_as_in_pytest(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--json", "--no-cpu", "-k", "(knn or retrieval) and resnet and not random"]
    assert main(["plan", *arguments]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [(case["task"], case["name"]) for case in record["cases"]] == [
        ("knn", "resnet_micro_glyphs-digits"), ("retrieval", "resnet_micro_glyphs-characters"),
    ]  # fmt: skip
    assert main(["plan", "--no-cpu", "-k", "knn and"]) != 0
    assert "-k 'knn and': expected" in capsys.readouterr().err
