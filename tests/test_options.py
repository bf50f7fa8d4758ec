"""One declaration an option: parser, ini, ``Options``, repeat command and README follow from it."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

import pytest

from bob.catalog.scale_file import scale_and_file
from bob.cli import main
from bob.cli.main import _parser
from bob.errors import BobError
from bob.executors import make_executor
from bob.options import OPTIONS, Options, option_table

README = Path(__file__).parents[1] / "README.md"


def test_the_readme_has_the_table_that_the_command_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["list", "options", "--markdown"]) == 0
    printed = capsys.readouterr().out.strip()
    assert printed == option_table()
    text = README.read_text(encoding="utf-8")
    shown = text.split("<!-- options: bob list options --markdown -->")[1]
    assert shown.split("<!-- end of options -->")[0].strip() == printed


def test_every_option_has_a_field_and_every_field_an_option() -> None:
    names = {option.field for option in OPTIONS}
    # the file of --checkpoint goes into the name of its backbone
    assert names - {"checkpoint"} == {field.name for field in fields(Options)}


def test_every_option_is_in_pytests_help(project: pytest.Pytester) -> None:
    text = " ".join(project.runpytest("--help").stdout.str().split())
    for option in OPTIONS:
        assert option.flag in text
        assert (f"(ini: {option.dest})" in text) == option.ini


def test_bob_plan_takes_what_the_declarations_say() -> None:
    (commands,) = [
        action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)
    ]
    flags = {flag for action in commands.choices["plan"]._actions for flag in action.option_strings}
    own = {option.flag for option in OPTIONS}
    assert flags & own == {option.flag for option in OPTIONS if option.planned}


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.repeat], ids=str)
def test_what_matters_again_is_in_the_repeat_command(
    project: pytest.Pytester, option: object
) -> None:
    from bob.options import Option, repeated_words

    assert isinstance(option, Option)
    value = option.choices[-1] if option.choices else "1"
    words = [option.flag] if option.kind == "bool" else [option.flag, value]
    config = project.parseconfig(*words)
    expected = [] if option.dest == "bob_backbones" else words  # told apart, with its checkpoint
    assert repeated_words(config) == expected


SCALES = {
    "no.yaml": ("backbones: {}\n", "holds 0 scales (none)"),
    "two.yaml": ("scales: {a: {tasks: {}}, b: {tasks: {}}}\n", "holds 2 scales (a, b)"),
}


@pytest.mark.parametrize("name", SCALES)
def test_a_scale_file_has_exactly_one(tmp_path: Path, name: str) -> None:
    content, words = SCALES[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(BobError) as caught:
        scale_and_file(name, tmp_path)
    assert words in str(caught.value)
    assert f"--catalog {name} --scale NAME" in str(caught.value)


def test_a_scale_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BobError, match=r"--scale smok.yaml: there is no file .*bob list scales"):
        scale_and_file("smok.yaml", tmp_path)
    assert scale_and_file("smoke", tmp_path) == ("smoke", ())


def test_a_scale_file_runs(project: pytest.Pytester) -> None:
    (project.path / "mine.yaml").write_text(
        "scales:\n  mine:\n    tasks:\n      knn: {datasets: [digits], recipe: {image_size: 32}}\n"
    )
    project.makepyfile(
        test_suite="""
        import pytest

        @pytest.mark.knn
        def test_knn(case, battle):
            battle(case)
        """
    )
    result = project.runpytest("--scale", "mine.yaml", "--backbone", "resnet_micro_glyphs")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["bob: scale mine, 1 backbones"])


class Spread:
    """An executor with settings."""

    def __init__(self, *, workers: str = "1") -> None:
        self.workers = workers


def test_options_reach_an_executor(project: pytest.Pytester) -> None:
    from bob.executors import _made

    made = _made("spread", Spread, {"workers": "4"})  # type: ignore[arg-type]
    assert isinstance(made, Spread)
    assert made.workers == "4"
    with pytest.raises(BobError, match=r"option of executor 'spread' 'worker'.*'workers'"):
        _made("spread", Spread, {"worker": "4"})  # type: ignore[arg-type]
    with pytest.raises(BobError, match="'inline' takes none"):
        make_executor("inline", {"workers": "4"})
    result = project.runpytest("--executor-option", "workers=4")
    assert "Unknown option of executor 'inline' 'workers'" in result.stderr.str()
    result = project.runpytest("--executor-option", "workers")
    assert "expected KEY=VALUE" in result.stderr.str()
