"""One declaration an option: parser, ini, values, repeat command, ``bob`` and README follow."""

from __future__ import annotations

import argparse
import os
import shlex
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest

from bob.catalog.scale_file import scale_and_file
from bob.cli import main
from bob.cli.main import make_parser
from bob.errors import BobError
from bob.executors import make_executor
from bob.options import OPTIONS, Option, Options, option_table
from bob.options.pytest_config import read_options
from bob.options.shell import repeated_words
from bob.plan import Selection
from tests.conftest import suite_of
from tests.photos import write_photos

README = Path(__file__).parents[1] / "README.md"
WITH_VARIABLE = [option for option in OPTIONS if option.env]


def flag_of(option: Option) -> str:
    return option.flag


def test_the_readme_has_the_table_that_the_command_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["list", "options", "--markdown"]) == 0
    printed = capsys.readouterr().out.strip()
    assert printed == option_table()
    text = README.read_text(encoding="utf-8")
    shown = text.split("<!-- options: bob list options --markdown -->")[1]
    assert shown.split("<!-- end of options -->")[0].strip() == printed


def test_every_option_has_a_field_of_its_type_and_every_field_an_option() -> None:
    made = {option.field: get_type_hints(option.parse)["return"] for option in OPTIONS}
    assert len(made) == len(OPTIONS)
    del made["checkpoint"]  # goes into the name of its backbone
    assert made == get_type_hints(Options)


def test_a_selection_is_made_of_options() -> None:
    names = {"base_seed" if field.name == "seed" else field.name for field in fields(Selection)}
    assert names <= {option.field for option in OPTIONS}


def test_every_option_is_in_pytests_help(project: pytest.Pytester) -> None:
    text = " ".join(project.runpytest("--help").stdout.str().split())
    for option in OPTIONS:
        assert option.flag in text
        assert (f"(ini: {option.dest})" in text) == option.ini
        assert not option.env or f"(environment: {option.env})" in text


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from parsers(command)


COMMANDS = {
    " ".join(parser.prog.split()[1:]): parser
    for parser in parsers(make_parser())
    if parser.get_default("run")
}


def test_the_declarations_name_commands_there_are() -> None:
    named = {command for option in OPTIONS for command in option.commands}
    assert named <= {command.split()[0] for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_takes_what_the_declarations_say(command: str) -> None:
    actions = {
        flag: action for action in COMMANDS[command]._actions for flag in action.option_strings
    }
    taken = {option.flag for option in OPTIONS if command.split()[0] in option.commands}
    assert actions.keys() & {option.flag for option in OPTIONS} == taken
    for option in OPTIONS:
        if option.flag in taken:
            action = actions[option.flag]
            assert action.choices == option.choices
            assert (action.help or "").startswith(option.help)
            assert not option.alias or actions[option.alias] is action


def value_of(option: Option, number: int = 1) -> str:
    """A value that an option can have."""
    if option.choices:
        return option.choices[-1]
    return {"--executor-option": f"workers={number}", "--reference-gpu": "V100"}.get(
        option.flag, str(number)
    )


def words_of(option: Option) -> list[str]:
    return [option.flag] if option.kind == "bool" else [option.flag, value_of(option)]


@pytest.mark.parametrize("option", OPTIONS, ids=flag_of)
def test_what_matters_again_is_in_the_repeat_command(
    project: pytest.Pytester, option: Option
) -> None:
    words = words_of(option)
    told_apart = option.dest == "bob_backbones"  # with its checkpoint
    expected = ["=".join(words)] if option.repeat and not told_apart else []
    assert repeated_words(project.parseconfig(*words)) == expected


@pytest.mark.parametrize("option", WITH_VARIABLE, ids=flag_of)
def test_command_line_before_ini_file_before_variable_before_default(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, option: Option
) -> None:
    project.makeini("[pytest]\n")

    def read(*words: str) -> str:
        return str(getattr(read_options(project.parseconfig(*words)), option.field))

    monkeypatch.delenv(option.env, raising=False)
    default = read()
    monkeypatch.setenv(option.env, "of_variable")
    assert read().endswith("of_variable")
    project.makeini(f"[pytest]\n{option.dest} = of_ini\n")
    assert read().endswith("of_ini")
    assert read(option.flag, "of_flag").endswith("of_flag")
    monkeypatch.delenv(option.env)
    assert read().endswith("of_ini")
    assert not default.endswith(("of_variable", "of_ini"))


WRONG = {
    "bob_seeds": ("two", "bob_seeds 'two' in the ini file: expected a whole number of at least 1."),
    "bob_engine": ("torch", "bob_engine 'torch' in the ini file: expected one of detectron2, "),
    "bob_features_limit": ("much", "bob_features_limit 'much' in the ini file: expected a number"),
    "bob_catalog": ("no.yaml", "bob_catalog no.yaml in the ini file: there is no file "),
    "bob_executor_options": ("x", "bob_executor_options 'x' in the ini file: expected KEY=VALUE"),
}


@pytest.mark.parametrize("key", WRONG)
def test_a_wrong_value_of_the_ini_file_is_said_to_be_there(
    project: pytest.Pytester, key: str
) -> None:
    value, words = WRONG[key]
    result = project.runpytest("-o", f"{key}={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: {words}" in result.stderr.str()


def test_bob_reads_as_pytest_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "--seeds", "two"]) == 2
    assert "--seeds 'two': expected a whole number of at least 1." in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there:5000")
    assert main(["ui"]) == 0
    assert "its pages are at http://there:5000" in capsys.readouterr().out
    assert main(["ui", "--tracking-uri", "http://here:5000"]) == 0
    assert "its pages are at http://here:5000" in capsys.readouterr().out


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> set[str]:
    assert main(["list", *words]) == 0
    return {line.split()[0] for line in capsys.readouterr().out.splitlines()}


def test_bob_list_of_one_scale(
    tmp_path: Path, tiny_catalog_file: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    tiny = ("--scale", str(tiny_catalog_file))
    assert listed(capsys, "backbones", *tiny) == {"pixels_coarse", "pixels_fine"}
    assert listed(capsys, "tasks", *tiny) == {"finetune"}
    assert listed(capsys, "datasets", *tiny) == {"digits"}
    assert listed(capsys, "scales", *tiny) == {"tiny"}
    assert listed(capsys, "references", *tiny) == set()
    assert listed(capsys, "backbones") > listed(capsys, "backbones", "--scale", "smoke")
    assert main(["list", "executors", *tiny]) == 2
    assert "`bob list executors` takes no --scale" in capsys.readouterr().err
    assert main(["list", "tasks", "--scale", "smok"]) == 2
    assert "Unknown scale 'smok'. Did you mean 'smoke'?" in capsys.readouterr().err


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
    assert f"--catalog={name} --scale=NAME" in str(caught.value)


def test_a_scale_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BobError, match=r"--scale smok.yaml: there is no file .*bob list scales"):
        scale_and_file("smok.yaml", tmp_path)
    assert scale_and_file("smoke", tmp_path) == ("smoke", ())


@pytest.mark.parametrize(
    ("words", "offer"),
    [
        (("--scale", "min.yaml"), "Did you mean 'mine.yaml'?"),
        (("--scale", "folder/min.yml"), "Did you mean 'mine.yml'?"),
        (("--scale", "smoke.yaml"), " or 'smoke'?"),
        (("--scale", "none/mine.yaml"), "there is no folder "),
        (("--catalog", "mines.yaml"), "Did you mean 'mine.yaml'?"),
        (("--catalog", "folder"), "folder is a folder."),
    ],
)
def test_a_file_that_is_not_there_is_one_error_that_offers_the_nearest(
    project: pytest.Pytester, capsys: pytest.CaptureFixture[str], words: tuple[str, str], offer: str
) -> None:
    for name in ("mine.yaml", "folder/mine.yml", "folder/mines.txt"):
        (project.path / name).parent.mkdir(exist_ok=True)
        (project.path / name).write_text("scales: {mine: {tasks: {}}}")
    told = f"{' '.join(words)}: "
    result = project.runpytest(*words)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line]
    assert line.startswith(f"ERROR: {told}")
    assert offer in line
    capsys.readouterr()
    assert main(["plan", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"bob: {told}")
    assert offer in line


def test_a_scale_file_runs(project: pytest.Pytester) -> None:
    (project.path / "mine.yaml").write_text(
        "scales:\n  mine:\n    tasks:\n      knn: {datasets: [digits], recipe: {image_size: 32}}\n"
    )
    project.makepyfile(test_suite=suite_of("knn"))
    result = project.runpytest("--scale", "mine.yaml", "--backbone", "resnet_micro_glyphs")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["bob: scale mine, 1 backbones"])


def test_executors_refuse_options_they_do_not_have(project: pytest.Pytester) -> None:
    with pytest.raises(BobError, match="'inline' takes none"):
        make_executor("inline", {"workers": "4"})
    result = project.runpytest("--executor-option", "workers=4")
    assert "Unknown option of executor 'inline' 'workers'" in result.stderr.str()
    result = project.runpytest("--executor-option", "workers")
    assert "expected KEY=VALUE" in result.stderr.str()


OWN = """
scales:
  own:
    tasks:
      finetune:
        datasets: [digits]
        grid: {lr: [0.01, 0.05], weight_decay: [0.05]}
        recipe: {epochs: 1, batch_size: 100, image_size: 32, layer_decay: 1.0,
          warmup_epochs: 0, warmup_lr: 0.0, drop_path: 0.0, label_smoothing: 0.0, mixup: 0.0,
          cutmix: 0.0, rand_augment: null, color_jitter: 0.0, crop_scale: 1.0, hflip: 0.0,
          random_erase: 0.0}
"""
PIXELS = """
backbones:
  pixels_own:
    {family: pixels, source: "bob.backbones.micro:pooled_pixels", arguments: {grid: 6},
     pretraining: none, scales: [own]}
"""


def properties(file: Path) -> dict[str | None, str | None]:
    """What JUnit's file has of a case, without which run of MLflow it was."""
    nodes = ElementTree.parse(file).iter("property")
    found = {node.get("name"): node.get("value") for node in nodes}
    assert found.pop("bob.mlflow_run")
    return found


def test_strictness_is_no_part_of_the_repeat_command(project: pytest.Pytester) -> None:
    """pytest keeps ``--strict-markers`` as an override of the ini file."""
    words = ["--strict-markers", "--strict-config", "-o", "bob_seeds=2"]
    assert repeated_words(project.parseconfig(*words)) == ["-o", "bob_seeds=2"]


def fail_and_repeat(project: pytest.Pytester, *words: str) -> str:
    """Run a case that fails, run its repeat command, and hold the two together."""
    first = project.runpytest(*words, "--junitxml=first.xml")
    first.assert_outcomes(failed=1)
    (line,) = [line for line in first.outlines if line.startswith("  repeat ")]
    command = line.removeprefix("  repeat ").strip()
    program, *again = shlex.split(command)
    assert program == "pytest"
    project.runpytest(*again, "--junitxml=again.xml").assert_outcomes(failed=1)
    once, twice = (properties(Path.cwd() / name) for name in ("first.xml", "again.xml"))
    assert once == twice
    assert once["bob.verdict"] == "fail"
    return command


def test_the_repeat_command_reproduces_a_failing_case(project: pytest.Pytester) -> None:
    write_photos(project.path / "my shapes", 20)
    (project.path / "own.yaml").write_text(OWN)
    (project.path / "pixels.yaml").write_text(PIXELS)
    (project.path / "mine").mkdir()
    command = fail_and_repeat(
        project, "--scale", "own.yaml", "--catalog", "pixels.yaml", "--backbone", "pixels_own",
        "--backbone", "vit_micro_random", "--dataset", "folder:my shapes,test=0.3", "--grid",
        "--engine", "torchvision", "--seeds", "2", "--base-seed", "7", "--references", "mine",
        "--accelerator", "cpu", "--precision", "32-true", "--require-bands", "-k", "pixels_own",
        "-o", "bob_workers=0",
    )  # fmt: skip
    for words in (
        "--scale=own.yaml", "--catalog=pixels.yaml", "'--dataset=folder:my shapes,test=0.3'",
        "--grid", "--engine=torchvision", "--seeds=2", "--base-seed=7", "--references=mine",
        "--require-bands", "-o bob_workers=0",
    ):  # fmt: skip
        assert words in command


def test_the_repeat_command_reads_the_ini_file_that_was_read(
    project: pytest.Pytester, tmp_path_factory: pytest.TempPathFactory, shared_store: str
) -> None:
    file = tmp_path_factory.mktemp("elsewhere") / "pixels.yaml"
    file.write_text(PIXELS + OWN)
    command = fail_and_repeat(
        project, f"--catalog={file}", "--scale", "own", "--tracking-uri", shared_store,
        "--require-bands", f"--rootdir={file.parents[1]}", "-c", os.devnull,
    )  # fmt: skip
    assert f"--rootdir={file.parents[1]} -c {os.devnull}" in command


def test_the_repeat_command_of_a_test_in_another_folder(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    suites = project.mkdir("suites_of_ours")
    (project.path / "test_suite.py").rename(suites / "test_suite.py")
    monkeypatch.chdir(project.mkdir("nested"))
    words = ("../suites_of_ours", "--require-bands", "-k", "fine-digits")
    command = fail_and_repeat(project, *words)
    test = "../suites_of_ours/test_suite.py::test_finetune[pixels_fine-digits]"
    assert command == f"pytest '{test}' --require-bands"
