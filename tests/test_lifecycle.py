"""References from nothing to green, red and updated, driven through pytest itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

FEW = ("--seeds", "3")


def reference(project: pytest.Pytester, name: str = "pixels_fine") -> Path:
    return project.path / "references" / "tiny" / f"{name}.json"


def lower(path: Path, metric: str = "top1", add: float = 0.1) -> None:
    """Make the stored scores better than they were, as if the backbone had got worse since."""
    data = json.loads(path.read_text())
    for stored in data["settings"]["finetune/digits"]["values"].values():
        stored[metric] = min(1.0, stored[metric] + add)
    path.write_text(json.dumps(data))


def test_created_then_passing_then_failing_then_updated(project: pytest.Pytester) -> None:
    project.runpytest().assert_outcomes(passed=2, warnings=2)
    assert not reference(project).exists()

    result = project.runpytest("--bands", "new", *FEW)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*reference created from 3 seeds*", "*references written*"])
    created = reference(project).read_text()

    result = project.runpytest()
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["pixels_fine *[[]0.*]*pass"])

    lower(reference(project))
    result = project.runpytest()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "finetune/digits of pixels_fine at scale tiny: top1 0.* is below its band [[]*",
            "  top1 * band * z -* fail",
            "  together *deviations worse on average, of which *expected  z -*fail",
            "  reference   3 seeds (1000..1002); *pixels_fine.json, measured *",
            "  top1 by seed  0: 0.*, 1: 0.*, 8: 0.*, the later ones extra*",
            "  MLflow      run *",
            "  repeat      pytest 'test_suite.py::test_finetune[[]pixels_fine-digits[]]'",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*bob/*.py:*")

    before = json.loads(reference(project).read_text())
    result = project.runpytest("--bands", "failed", *FEW)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*is below its band*reference updated from 3 seeds*",
            "  top1 *0.* (n=3) -> 0.* (n=3), z -*",
        ]
    )
    after = json.loads(reference(project).read_text())
    setting, old = after["settings"]["finetune/digits"], before["settings"]["finetune/digits"]
    assert setting["values"] != old["values"]
    assert setting["anchor"] == old["anchor"]
    assert setting["values"] == json.loads(created)["settings"]["finetune/digits"]["values"]

    project.runpytest().assert_outcomes(passed=2)


def test_new_leaves_existing_references_alone(project: pytest.Pytester) -> None:
    project.runpytest("--bands", "new", *FEW, "-k", "fine-digits")
    before = reference(project).read_text()
    result = project.runpytest("--bands", "new", *FEW)
    result.assert_outcomes(passed=1, failed=1)
    assert reference(project).read_text() == before
    assert reference(project, "pixels_coarse").exists()


def test_all_rewrites_and_passes(project: pytest.Pytester) -> None:
    result = project.runpytest("--bands", "all", *FEW)
    result.assert_outcomes(passed=2)
    result = project.runpytest("--bands", "all", "--seeds", "2")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["  top1 * (n=3) -> * (n=2), z *"])


def test_a_changed_protocol_is_red_until_measured_anew(project: pytest.Pytester) -> None:
    project.runpytest("--bands", "new", *FEW, "-k", "fine-digits")
    catalog = Path(project.makefile(".yaml", catalog="").as_posix())
    original = next(line for line in (project.path / "tox.ini").read_text().splitlines()
                    if line.startswith("bob_catalog"))  # fmt: skip
    text = Path(original.split("=", 1)[1].strip()).read_text()
    catalog.write_text(text.replace("lr: 0.05", "lr: 0.005"))
    options = ("-k", "fine-digits", "-o", f"bob_catalog={catalog}")
    result = project.runpytest(*options)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*no comparable reference: the protocol changed*lr 0.05 -> 0.005*", "*stale reference*"]
    )
    project.runpytest("--bands", "failed", *FEW, *options).assert_outcomes(failed=1)
    project.runpytest(*options).assert_outcomes(passed=1)


def test_require_bands(project: pytest.Pytester) -> None:
    result = project.runpytest("--require-bands")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*there is no reference to compare with*--require-bands*"])


def test_unused_references_are_reported(project: pytest.Pytester) -> None:
    project.runpytest("--bands", "new", *FEW, "-k", "fine-digits")
    data = json.loads(reference(project).read_text())
    data["backbone"] = "retired"
    reference(project, "retired").write_text(json.dumps(data))
    result = project.runpytest("-k", "coarse")
    result.stdout.fnmatch_lines(["*unused references*", "*retired.json: finetune/digits"])
    result.stdout.no_fnmatch_line("*pixels_fine.json: finetune/digits")


def test_malformed_reference_stops_before_training(project: pytest.Pytester) -> None:
    project.runpytest("--bands", "new", *FEW, "-k", "fine-digits")
    path = reference(project)
    path.write_text(path.read_text()[:-40])
    result = project.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *pixels_fine.json:*: not valid JSON*--bands new*"])
