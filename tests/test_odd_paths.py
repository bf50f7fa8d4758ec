"""Paths that lead nowhere: one error that names them, and no traceback."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest

from bob.cli import main
from bob.errors import BobError
from bob.places import cache_folder, real_path, user_path

NOBODY = "~no_such_user_here/x"
PATHS = ("--features", "--references", "--checkpoint", "--backbone", "--catalog", "--scale")


def one_error(project: pytest.Pytester, *words: str) -> str:
    result = project.runpytest("--collect-only", *words)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line]
    assert line.startswith("ERROR: ")
    return line


@pytest.mark.parametrize("option", PATHS)
def test_a_home_of_nobody(project: pytest.Pytester, option: str) -> None:
    value = {"--backbone": f"{NOBODY}.pth,model=resnet18", "--scale": f"{NOBODY}.yaml"}
    more = ["--backbone=timm:resnet18"] if option == "--checkpoint" else []
    told = one_error(project, f"{option}={value.get(option, NOBODY)}", *more)
    assert "no_such_user_here" in told


@pytest.mark.parametrize("kind", ["folder", "coco", "hf"])
def test_a_dataset_in_a_home_of_nobody(project: pytest.Pytester, kind: str) -> None:
    assert "no_such_user_here" in one_error(project, f"--dataset={kind}:{NOBODY}")


@pytest.mark.parametrize("variable", ["BOB_FEATURES", "BOB_DATA", "XDG_CACHE_HOME", "TORCH_HOME"])
def test_variables_may_name_nobody_s_home(
    variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, NOBODY)
    for words in (["features", "ls"], ["plan", "--scale", "lite"], ["doctor"]):
        main(words)
        assert "Traceback" not in capsys.readouterr().err


def test_links_to_themselves(project: pytest.Pytester) -> None:
    loop = project.path / "loop"
    loop.symlink_to("loop")
    for words in (
        "--dataset=folder:loop", "--dataset=coco:loop", "--dataset=hf:./loop", "--catalog=loop",
        "--backbone=loop.pth,model=resnet18", "--scale=loop",
    ):  # fmt: skip
        assert "loop" in one_error(project, words)
    result = project.runpytest("-k", "pixels_coarse", "--references=loop")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: Cannot read the references in *loop*"])
    assert main(["list", "references", "--references", str(loop)]) == 2


def test_a_catalog_of_the_project_that_cannot_be_read_is_told(project: pytest.Pytester) -> None:
    (project.path / "bob.yaml").symlink_to("nowhere.yaml")
    assert "bob.yaml" in one_error(project)


def test_paths_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert user_path("~/a") == tmp_path / "a"
    assert user_path("a~b") == Path("a~b")
    assert real_path("a") == Path(tmp_path, "a").resolve()
    with pytest.raises(BobError, match=r"no home folder of user 'no_such_user_here'"):
        user_path(NOBODY)


def test_no_home_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME")
    with (
        patch("pwd.getpwuid", side_effect=KeyError),
        pytest.raises(BobError, match=r"no home folder of yours: HOME .*XDG_CACHE_HOME"),
    ):
        cache_folder("bob")


@pytest.mark.parametrize("word", ["--setup-only", "--setup-plan"])
def test_what_runs_nothing_opens_no_record(
    project: pytest.Pytester, own_store: tuple[str, str], word: str
) -> None:
    project.runpytest(*own_store, "-k", "pixels_coarse", word)
    assert not (project.path / "mlruns").exists()


def test_a_plugin_of_pytest_may_be_left_out(
    project: pytest.Pytester, own_store: tuple[str, str]
) -> None:
    without = ("-p", "no:setuponly", "-p", "no:setupplan")
    project.runpytest(*own_store, *without, "-k", "pixels_coarse").assert_outcomes(passed=1)
