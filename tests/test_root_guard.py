"""Values of our options that exist as paths: pytest's root folder and ini file stay where they are.

pytest looks for both before it knows the options of plugins, and takes an existing path behind a
space for a test.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from bob.options import OPTIONS, Option, option_table
from bob.options.shell import repeated_words

VALUED = [option for option in OPTIONS if option.kind != "bool"]


def flag_of(option: Option) -> str:
    return option.flag


def outside(folder: Path) -> str:
    """A folder outside of the project."""
    (folder / "given").mkdir(exist_ok=True)
    return str(folder / "given")


def refused(project: pytest.Pytester, *words: str) -> str:
    """The one line that a command line is refused with."""
    result = project.runpytest("--collect-only", *words)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert not result.stdout.str().strip()  # nothing was collected, nothing run
    (line,) = [line for line in result.errlines if line]
    assert not (Path.cwd() / "mlruns").exists()
    return line


@pytest.mark.parametrize("option", VALUED, ids=flag_of)
def test_no_option_moves_the_root_folder(
    project: pytest.Pytester, tmp_path: Path, option: Option
) -> None:
    """Every option there is; one that is declared tomorrow is among them."""
    if option.choices:  # its values are no paths, unless a folder in the project has such a name
        value = option.choices[0]
        project.mkdir(value)
        (project.path / value / "pytest.ini").write_text("[pytest]\n")
    else:
        value = outside(tmp_path)
    line = refused(project, option.flag, value)
    assert f"path behind {option.flag} and a space" in line
    assert line.endswith(f"Write it with the sign: {option.flag}={value}")
    config = project.parseconfig(f"{option.flag}={value}")
    assert config.rootpath == project.path
    assert config.inipath == project.path / "tox.ini"


def test_the_gate_stays_as_red_as_its_ini_file_says(
    project: pytest.Pytester, tmp_path: Path
) -> None:
    """What was green for nothing: the ini file asks for bands, a folder behind a space took it."""
    project.makeini(f"{(project.path / 'tox.ini').read_text()}\nbob_require_bands = true\n")
    for flag in ("--references", "--features"):
        folder = outside(tmp_path)
        assert f"{flag}={folder}" in refused(project, flag, folder)
    words = [f"--references={folder}", f"--features={folder}", "-k", "coarse"]
    result = project.runpytest(*words)
    result.assert_outcomes(failed=1, deselected=1)
    assert "no reference" in result.stdout.str()


def test_beside_the_path_of_a_suite(project: pytest.Pytester, tmp_path: Path) -> None:
    """pytest asks the folders one by one then; the first that has an ini file decides."""
    folder, ini = outside(tmp_path), project.path / "tox.ini"
    assert project.parseconfig("--features", folder, "test_suite.py").inipath == ini
    assert project.parseconfig("test_suite.py", "--features", folder).inipath == ini
    (Path(folder) / "pytest.ini").write_text("[pytest]\n")
    assert f"--features={folder}" in refused(project, "--features", folder, "test_suite.py")
    assert project.parseconfig("test_suite.py", "--features", folder).inipath == ini


def test_two_paths_are_both_named(project: pytest.Pytester, tmp_path: Path) -> None:
    folder = outside(tmp_path)
    line = refused(project, "--features", folder, "--seeds", "2", "--references", folder)
    assert "path behind --features and --references and a space" in line
    assert line.endswith(f"--features={folder} --references={folder}")


def test_the_words_of_the_environment(
    project: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = outside(tmp_path)
    monkeypatch.setenv("PYTEST_ADDOPTS", f"--features {shlex.quote(folder)}")
    assert f"--features={folder}" in refused(project)
    monkeypatch.setenv("PYTEST_ADDOPTS", shlex.quote(f"--features={folder}"))
    assert project.parseconfig().inipath == project.path / "tox.ini"


def test_a_file_of_arguments(project: pytest.Pytester, tmp_path: Path) -> None:
    folder = outside(tmp_path)
    (project.path / "words.txt").write_text(f"--features\n{folder}\n")
    assert f"--features={folder}" in refused(project, "@words.txt")


def test_relative_paths_and_a_subfolder(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside_of_it = project.path.parent / f"{project.path.name}-features"
    outside_of_it.mkdir()
    monkeypatch.chdir(project.mkdir("nested"))
    value = os.path.relpath(outside_of_it)
    assert refused(project, "--features", value).endswith(f"--features={value}")


def test_what_moves_nothing_is_taken(
    project: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path inside of the project, one that does not exist, and a root folder that is named."""
    ini = project.path / "tox.ini"
    project.mkdir("kept")
    folder = outside(tmp_path)
    for words in (
        ("--features", "kept"),
        ("--features", str(project.path / "kept"), "test_suite.py"),
        ("--features", str(tmp_path / "not there yet")),
        ("--features", folder, "-c", str(ini)),
        ("--features", folder, "-c", str(ini), f"--rootdir={project.path}"),
        ("--", "test_suite.py"),
    ):
        config = project.parseconfig("--collect-only", *words)
        assert (config.rootpath, config.inipath) == (project.path, ini), words
    # a root folder alone does not say where the ini file is
    assert "read no ini file" in refused(project, "--features", folder, f"--rootdir={project.path}")
    monkeypatch.chdir(project.path / "kept")
    assert project.parseconfig("--features", "../kept").inipath == ini


def test_an_ini_file_that_says_addopts_and_testpaths(
    project: pytest.Pytester, tmp_path: Path
) -> None:
    """Words of ``addopts`` are read from an ini file that was found: they cannot move it."""
    folder = outside(tmp_path)
    ini = project.path / "tox.ini"
    ini.write_text(f"{ini.read_text()}\naddopts = --features {folder}\ntestpaths = test_suite.py\n")
    result = project.runpytest("--collect-only", "-q")
    assert result.ret == 0
    assert len([line for line in result.outlines if line.startswith("test_suite.py::")]) == 2
    (project.path / "pyproject.toml").write_text(
        f"[tool.pytest.ini_options]\n{_toml(ini)}\ntestpaths = ['test_suite.py']\n"
    )
    ini.unlink()
    assert "--references=" in refused(project, "--references", folder)


def _toml(ini: Path) -> str:
    lines = [line.strip().split(" = ", 1) for line in ini.read_text().splitlines()]
    kept = [line for line in lines if len(line) == 2 and line[0].startswith("bob_")]
    return "\n".join(f"{key} = {value!r}" for key, value in kept)


def test_what_is_shown_and_printed_has_the_sign(project: pytest.Pytester) -> None:
    table = option_table()
    for option in VALUED:
        assert f"| `{option.flag}=" in table
        value = (option.choices or ("1",))[-1]
        words = repeated_words(project.parseconfig(f"{option.flag}={value}"))
        assert option.flag not in words
