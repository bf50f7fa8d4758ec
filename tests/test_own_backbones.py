"""Backbones of a user's own: a checkpoint, an installed package, a catalog file beside conftest."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bob.catalog import Catalog, installed_backbones, parse_backbone, with_checkpoint
from bob.cli import main
from bob.errors import BobError

GLYPHS = Path(__file__).resolve().parents[1] / "bob" / "backbones" / "weights"


def install(folder: Path, name: str, entry_points: str) -> None:
    """A distribution as an installer leaves it behind."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)


def test_checkpoint_is_the_argument_of_that_name(catalog: Catalog) -> None:
    file = str(GLYPHS / "vit_micro_glyphs.safetensors")
    (spec,) = with_checkpoint(("vit_micro_random",), file)
    assert spec == f"vit_micro_random,checkpoint={file}"
    weights = parse_backbone(spec, catalog).weights
    shipped = catalog.backbone("vit_micro_glyphs").weights
    assert weights is not None
    assert shipped is not None
    assert weights.sha256 == shipped.sha256
    assert with_checkpoint(("a", "b"), None) == ("a", "b")


def test_identity_follows_the_checkpoint(catalog: Catalog) -> None:
    before = catalog.backbone("vit_micro_random").identity
    file = GLYPHS / "vit_micro_glyphs.safetensors"
    after = parse_backbone(f"vit_micro_random,checkpoint={file}", catalog).identity
    assert before["weights"] is None
    assert after["weights"] is not None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "goes with exactly one --backbone; none is named"),
        (("--backbone", "pixels_fine", "--backbone", "pixels_coarse"), "2 are named"),
        (("--backbone", "x.pth,model=test_vit"), "'x.pth,model=test_vit' names a checkpoint"),
        (("--backbone", "pixels_fine,checkpoint=x.pth"), "names a checkpoint already"),
        (("--backbone", "pixels_fine"), "no checkpoint file at *mine.pth"),
    ],
)
def test_checkpoint_goes_with_one_backbone(
    project: pytest.Pytester, arguments: tuple[str, ...], words: str
) -> None:
    result = project.runpytest("--checkpoint", "mine.pth", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{words}*"])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_checkpoint_runs(project: pytest.Pytester) -> None:
    file = GLYPHS / "resnet_micro_glyphs.safetensors"
    result = project.runpytest("--backbone", "resnet_micro_random", f"--checkpoint={file}")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["bob: scale tiny, 1 backbones"])
    result.stdout.fnmatch_lines([f"resnet_micro_random@{file.name.split('.')[0]} *no reference"])


def test_checkpoint_does_not_move_the_root_folder(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a space pytest takes a file for a test, and its folder for the project's."""
    arguments = ("--collect-only", "-q", "--backbone", "resnet_micro_random", "--checkpoint")
    file = GLYPHS / "resnet_micro_glyphs.safetensors"
    result = project.runpytest(*arguments, str(file))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: pytest took * with the sign: --checkpoint={file}"])
    (project.path / "own.safetensors").write_bytes(file.read_bytes())
    result = project.runpytest(*arguments, "own.safetensors")
    result.stdout.fnmatch_lines(["*test_finetune?resnet_micro_random@own-digits*"])
    nested = project.mkdir("nested")
    (project.path / "tox.ini").rename(nested / "tox.ini")
    monkeypatch.chdir(nested)
    result = project.runpytest(*arguments, "../own.safetensors")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: pytest took * the sign: --checkpoint=../own.safetensors"])


def test_checkpoint_of_another_architecture_is_told_by_keys(project: pytest.Pytester) -> None:
    file = GLYPHS / "vit_micro_glyphs.safetensors"
    result = project.runpytest("--backbone", "resnet_micro_random", f"--checkpoint={file}")
    result.assert_outcomes(failed=1)
    output = result.stdout.str()
    assert "vit_micro_glyphs.safetensors does not fit bob.backbones.micro:resnet_micro:" in output
    assert "missing keys (conv1.weight, bn1.weight, bn1.bias, ...)" in output
    assert "unknown keys (" in output
    assert "Traceback" not in output
    result.stdout.fnmatch_lines(["  repeat *--backbone=resnet_micro_random,checkpoint=*"])


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.target,))


def test_checkpoint_with_code_is_refused(project: pytest.Pytester) -> None:
    target = project.path / "ran"
    with (project.path / "evil.pth").open("wb") as stream:
        pickle.dump({"state_dict": {"w": torch.zeros(1)}, "extra": Payload(target)}, stream)
    result = project.runpytest("--backbone", "resnet_micro_random", "--checkpoint", "evil.pth")
    result.assert_outcomes(failed=1)
    assert "a checkpoint is input, not code" in result.stdout.str()
    assert not target.exists()


FACTORY = """
from torch import nn

def make():
    return nn.Sequential(nn.AdaptiveAvgPool2d(6), nn.Flatten())
"""
ENTRIES = """
from bob.catalog import BackboneEntry

def entries():
    return [
        BackboneEntry(key=f"pixels_{grid}", family="pixels", scales=("tiny",),
                      source="bob.backbones.micro:pooled_pixels", arguments={"grid": grid})
        for grid in (2, 3)
    ]

def one():
    return entries()[0]

def module():
    return object()

def fails():
    raise RuntimeError("no such file")
"""


def test_installed_packages_bring_backbones(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.makepyfile(their_models=FACTORY, their_entries=ENTRIES)
    install(
        project.path,
        "theirs",
        "[bob.backbones]\nsix_by_six = their_models:make\nabsent = not_there:make\n"
        "[bob.backbone_entries]\npixels = their_entries:entries\n",
    )
    monkeypatch.syspath_prepend(str(project.path))
    for name in ("their_models", "their_entries"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    collected = project.runpytest("--collect-only", "-q")
    assert len([line for line in collected.outlines if "::" in line]) == 4
    assert "their_models" not in sys.modules
    result = project.runpytest("--backbone", "six_by_six", "--backbone", "absent")
    result.assert_outcomes(passed=1, failed=1, warnings=2)
    result.stdout.fnmatch_lines(
        ["*six_by_six-digits: the backbone has no parameters, so only the head was trained"]
    )
    result.stdout.fnmatch_lines(["*Backbone 'absent': no module 'not_there'*", "six_by_six *"])


@pytest.mark.parametrize(
    ("entry_points", "words"),
    [
        ("[bob.backbones]\ndino_vit_small = a.b:c", "key 'dino_vit_small' is taken"),
        ("[bob.backbones]\nBig Net = a.b:c", "bob.backbones: Big Net = 'a.b:c' of theirs: String"),
        ("[bob.backbones]\nnet = a.b", "expected 'timm:NAME' or 'package.module:factory'"),
        ("[bob.backbone_entries]\nx = nowhere.at.all:f", "no module 'nowhere'"),
        ("[bob.backbone_entries]\nx = {}:onee", "Did you mean 'one'"),
        ("[bob.backbone_entries]\nx = {}:module", "gave object; expected a BackboneEntry"),
        ("[bob.backbone_entries]\nx = {}:fails", "raised RuntimeError: no such file"),
        ("[bob.backbone_entries]\nx = {0}:one\ny = {0}:one", "key 'pixels_2' is taken"),
    ],
)
def test_bad_entry_points_are_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    catalog: Catalog,
    entry_points: str,
    words: str,
) -> None:
    module = f"entries_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{module}.py").write_text(ENTRIES)
    install(tmp_path, "theirs", entry_points.format(module))
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BobError) as caught:
        installed_backbones(catalog)
    assert words in str(caught.value)


def test_planning_with_installed_factories_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "their_models.py").write_text(FACTORY)
    install(tmp_path, "theirs", "[bob.backbones]\nsix_by_six = their_models:make\n")
    code = (
        "import sys; from bob.cli import main; "
        "assert main(['list', 'backbones']) == 0; "
        "assert not {'torch', 'timm', 'mlflow', 'their_models'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "six_by_six" in done.stdout


def test_catalog_beside_the_root_conftest_is_found(project: pytest.Pytester) -> None:
    (project.path / "bob.yaml").write_text(
        "backbones:\n  mine:\n    family: pixels\n    source: bob.backbones.micro:pooled_pixels\n"
    )
    for extra in ((), ("--catalog", "bob.yaml", "--scale", "smoke")):
        result = project.runpytest("--collect-only", "-q", *extra, "--backbone", "mine")
        result.stdout.fnmatch_lines(["*test_finetune?mine-digits?"])
    (project.path / "bob.yaml").write_text("backbones:\n  mine: {family: x}\n")
    result = project.runpytest("--collect-only")
    result.stderr.fnmatch_lines(["ERROR: *bob.yaml:2: backbones.mine.source: Field required"])


def test_listing_names_what_packages_bring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(tmp_path, "theirs", "[bob.backbones]\nconv_six = their_models:convnext_six\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["list", "backbones"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("conv_six ")]
    assert lines == [lines[0]]
    assert lines[0].split(maxsplit=1)[1] == "convnext, pretraining unknown; from theirs"


def test_non_commercial_weights_are_named_in_the_report(project: pytest.Pytester) -> None:
    (project.path / "bob.yaml").write_text(
        "backbones:\n"
        "  bound: &net\n"
        "    family: pixels\n"
        "    source: bob.backbones.micro:pooled_pixels\n"
        "    licence: cc-by-nc-4.0\n"
        "  free: {<<: *net, licence: mit}\n"
    )
    result = project.runpytest("--backbone", "bound", "--backbone", "free")
    result.stdout.fnmatch_lines(["Non-commercial use only: bound (cc-by-nc-4.0)"])


def test_commands_find_the_catalog_in_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bob.yaml").write_text(
        "backbones:\n  mine: {family: pixels, source: 'bob.backbones.micro:pooled_pixels'}\n"
    )
    monkeypatch.chdir(tmp_path)
    for extra in ([], ["--catalog", "bob.yaml"]):
        assert main(["plan", "--backbone", "mine", "--task", "knn", *extra]) == 0
        assert "mine-digits" in capsys.readouterr().out
