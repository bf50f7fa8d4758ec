"""What a user of pytest meets: ids, selection, options, messages, properties."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

SMOKE = "sqlite:///{}/smoke.db"


def test_ids_are_sorted_and_readable(project: pytest.Pytester) -> None:
    result = project.runpytest("--collect-only", "-q", "--scale", "smoke")
    lines = [line for line in result.outlines if "::" in line]
    assert lines == sorted(lines)
    assert "test_suite.py::test_finetune[swin_micro_glyphs-digits]" in lines
    assert len(lines) == 8


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (("-k", "swin"), 2),
        (("-k", "convnext and not random"), 1),
        (("-m", "finetune"), 8),
        (("-m", "not finetune"), 0),
        (("--backbone", "vit_micro_random", "--backbone", "timm:test_resnet,pretrained=false"), 2),
        (("--backbone", "timm:test_resnet,pretrained=false", "-k", "test_resnet"), 1),
    ],
)
def test_selection(project: pytest.Pytester, arguments: tuple[str, ...], count: int) -> None:
    result = project.runpytest("--collect-only", "-q", "--scale", "smoke", *arguments)
    assert len([line for line in result.outlines if "::" in line]) == count


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scale", "smok"), "Unknown scale 'smok'. Did you mean 'smoke'*"),
        (
            ("--backbone", "pixel_fine"),
            "Unknown backbone 'pixel_fine'. Did you mean 'pixels_fine'*",
        ),
        (("--seeds", "0"), "--seeds '0': expected a whole number of at least 1*"),
        (("--seeds", "two"), "--seeds 'two': expected a whole number*"),
        (("--executor", "inlin"), "Unknown executor 'inlin'. Did you mean 'inline'*"),
        (("--catalog", "none.yaml"), "--catalog none.yaml: there is no file *none.yaml*"),
        (("--tracking-uri", "./mlruns"), "Tracking URI './mlruns' is a folder*sqlite:///*"),
        (
            ("--tracking-uri", "http://127.0.0.1:9"),
            "The tracking server http://127.0.0.1:9 does not answer*Nothing was run*",
        ),
        (("-n", "2", "--scale", "tiny"), "*pytest-xdist (-n)*--executor*"),
    ],
)
def test_bad_options_are_one_clear_error(
    project: pytest.Pytester, arguments: tuple[str, ...], words: str
) -> None:
    result = project.runpytest(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {words}"])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_bad_ini_values_are_clear_too(project: pytest.Pytester) -> None:
    result = project.runpytest("-o", "bob_scale=smok")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: Unknown scale 'smok'. Did you mean 'smoke'*"])


def test_xdist_is_refused_although_nothing_names_the_suite(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("-n", "2")
    assert result.ret != 0
    assert "--executor says where cases run" in result.stdout.str() + result.stderr.str()
    assert "passed" not in result.stdout.str()


def test_xdist_stays_usable_for_other_tests(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_one(): pass\ndef test_two(): pass")
    pytester.runpytest_subprocess("-n", "2").assert_outcomes(passed=2)


def test_other_repositories_are_left_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def case():
            return 1

        @pytest.mark.parametrize("x", [1, 2])
        def test_own(case, x):
            assert case == 1
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("*bob:*")
    assert not (pytester.path / "mlruns").exists()


def test_x_lf_and_durations(project: pytest.Pytester) -> None:
    result = project.runpytest("--require-bands", "-x", "--durations", "1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*slowest*durations*", "*call *pixels_coarse*"])
    result = project.runpytest("--lf")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["pixels_coarse *"])


def test_junit_properties(project: pytest.Pytester) -> None:
    project.runpytest("--bands", "new", "--seeds", "3", "-k", "fine-digits")
    project.runpytest("--junitxml", "junit.xml", "-k", "fine-digits").assert_outcomes(passed=1)
    tree = ElementTree.parse(project.path / "junit.xml")
    properties = {node.get("name"): node.get("value") for node in tree.iter("property")}
    assert properties["bob.verdict"] == "pass"
    assert 0.5 < float(properties["bob.top1"] or 0) < 1
    assert (properties["bob.top1.band"] or "").startswith("[0.")
    assert properties["bob.mlflow_run"]
    assert properties["bob.case"]


def test_failing_backbone_is_explained_in_a_few_lines(project: pytest.Pytester) -> None:
    project.makepyfile(broken="def make():\n    raise RuntimeError('no such depth')\n")
    result = project.runpytest("--backbone", "broken:make", "--backbone", "pixels_fine")
    result.assert_outcomes(passed=1, failed=1, warnings=1)
    result.stdout.fnmatch_lines(
        ["*of broken:make at scale tiny: *broken:make() raised RuntimeError: no such depth*"]
    )
    result.stdout.fnmatch_lines(["*raise RuntimeError('no such depth')*"])
    result.stdout.fnmatch_lines(["broken:make *error", "pixels_fine *no reference"])


def test_unreachable_weights_skip_with_the_remedy(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    result = project.runpytest("--backbone", "timm:resnet18.a1_in1k", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["timm:resnet18.a1_in1k *skipped"])
    assert "hf download timm/resnet18.a1_in1k" in result.stdout.str()
    assert "checkpoint=FILE" in result.stdout.str()


def test_several_seeds_are_averaged(project: pytest.Pytester) -> None:
    project.runpytest("--bands", "new", "--seeds", "3", "-k", "fine-digits")
    result = project.runpytest("--seeds", "3", "--base-seed", "40", "-k", "fine-digits", "-rA")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["pixels_fine * 3 * pass"])


def test_hooks_register_backbones_and_see_results(project: pytest.Pytester) -> None:
    project.makeconftest(
        """
        from bob.catalog import BackboneEntry

        def pytest_bob_backbones(config):
            return [BackboneEntry(key="local_pixels", family="pixels", scales=("tiny",),
                                  source="bob.backbones.micro:pooled_pixels")]

        def pytest_bob_evaluated(config, evaluation):
            config.stash.setdefault("seen", []).append(evaluation.case.backbone.key)

        def pytest_unconfigure(config):
            print("SEEN", config.stash.get("seen", []))
        """
    )
    result = project.runpytest("-s")
    result.assert_outcomes(passed=3, warnings=3)
    result.stdout.fnmatch_lines(["SEEN ['local_pixels', 'pixels_coarse', 'pixels_fine']"])


def test_progress_shows_under_capture(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("--progress", "live", "-k", "fine-digits")
    shown = re.compile(r"pixels_fine-digits( finetune seed 0)?: epoch 2/2 loss \d[.\d]* top1 0\.")
    assert shown.search(result.stdout.str())
    result = project.runpytest_subprocess("--progress", "off", "-k", "fine-digits")
    assert "epoch 2/2" not in result.stdout.str()


def test_suites_run_from_another_folder(
    tmp_path: Path, tiny_catalog_file: Path, shared_store: str
) -> None:
    """Another repository puts its own model through the installed suites."""
    (tmp_path / "models.py").write_text(
        "from torch import nn\n\n"
        "def make():\n    return nn.Sequential(nn.AdaptiveAvgPool2d(6), nn.Flatten())\n"
    )
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "--pyargs", "suites", "--backbone", "models:make",
            f"--catalog={tiny_catalog_file}", "--scale", "tiny",
            "--tracking-uri", shared_store, "-p", "no:cacheprovider", "--require-bands",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "there is no reference to compare with" in done.stdout
    repeat = next(line for line in done.stdout.splitlines() if line.startswith("  repeat"))
    assert "--pyargs 'suites.test_finetune::test_finetune[models:make-digits]'" in repeat
    assert "--backbone=models:make" in repeat
    assert "1 failed, 12 skipped" in done.stdout.splitlines()[-1]


def test_cheap_cases_run_before_dear_ones(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_suite="""
        import pytest

        @pytest.mark.finetune
        def test_dear(case, battle):
            battle(case)

        def test_of_something_else():
            pass

        @pytest.mark.knn
        def test_cheap(case, battle):
            battle(case)
        """
    )
    given = ("--collect-only", "-q", "--scale", "smoke", "--backbone", "resnet_micro_random")
    collected = [line for line in project.runpytest(*given).outlines if "::" in line]
    names = [line.split("::")[1].split("[")[0] for line in collected]
    assert names == ["test_of_something_else", "test_cheap", "test_dear"]
    named = [f"test_suite.py::{name}" for name in ("test_dear", "test_cheap")]
    collected = [line for line in project.runpytest(*given, *named).outlines if "::" in line]
    assert [line.split("::")[1].split("[")[0] for line in collected] == ["test_dear", "test_cheap"]
