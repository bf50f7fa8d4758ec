"""A command line that asks for a benchmark and finds none is an error, not a pass."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

OWN = Path(__file__).resolve().parents[1] / "suites"


def green_test(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "__init__.py").touch()
    (folder / "test_own.py").write_text("def test_own():\n    pass\n")


def test_a_package_that_shadows_the_suites_is_told(pytester: pytest.Pytester) -> None:
    green_test(pytester.path / "suites")
    done = pytester.run(
        sys.executable, "-m", "pytest", "--pyargs", "suites", "--backbone", "swin_micro_glyphs"
    )
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    told = "--backbone is given, and no case of bob was collected from suites"
    place = f"Python takes `suites` from {pytester.path / 'suites'}, which is not bob's: name {OWN}"
    done.stderr.fnmatch_lines([f"ERROR: {told}. {place} instead*"])


@pytest.mark.parametrize("flags", [["--scale", "smoke"], ["--scale=smoke"], ["--grid"]])
def test_options_without_a_case_are_refused(pytester: pytest.Pytester, flags: list[str]) -> None:
    green_test(pytester.path / "mine")
    done = pytester.runpytest("mine", *flags)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: --* is given, and no case of bob was collected from mine*"])


def test_a_repository_whose_ini_names_options_runs_its_other_tests(
    pytester: pytest.Pytester,
) -> None:
    green_test(pytester.path / "mine")
    pytester.makeini("[pytest]\naddopts = --scale smoke\nbob_scale = smoke\n")
    assert pytester.runpytest("mine").ret == 0


def test_a_broken_suite_keeps_its_own_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_broken="import nothing_of_this_name\n")
    done = pytester.runpytest("--scale", "smoke")
    assert done.ret == pytest.ExitCode.INTERRUPTED
    done.stdout.fnmatch_lines(["*nothing_of_this_name*"])


def test_collecting_alone_is_refused_too(pytester: pytest.Pytester) -> None:
    green_test(pytester.path / "mine")
    done = pytester.runpytest("mine", "--scale", "smoke", "--collect-only")
    assert done.ret == pytest.ExitCode.USAGE_ERROR


def test_a_task_without_cases_is_skipped_with_its_reason(project: pytest.Pytester) -> None:
    done = project.runpytest("--backbone", "resnet_micro_glyphs", "--scale", "tiny", "--co", "-q")
    assert done.ret == 0
