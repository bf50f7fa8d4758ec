"""Every catalog entry against the module it builds, without weights, memory or network."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bob.backbones.architecture import Architecture, build_architecture
from bob.backbones.build import make_module
from bob.backbones.key_maps import KEY_MAPS
from bob.catalog import BackboneEntry, family_of, load_catalog
from bob.cli import main
from bob.detection.features import FeatureMaps
from bob.plan import Plan, Selection

CATALOG = load_catalog()
ROOT = Path(__file__).resolve().parents[1]
PAPER_RANDOM = {
    f"{name}_random"
    for name in (
        "resnet50", "resnet101", "convnext_tiny", "convnext_base", "vit_small", "vit_base",
        "swinv2_tiny", "swinv2_base",
    )
}  # fmt: skip


@cache
def architecture(source: str, arguments: tuple[tuple[str, Any], ...]) -> Architecture:
    """Entries that share an architecture share the work; nothing here depends on weights."""
    entry = BackboneEntry(key="x", family="x", source=source, arguments=dict(arguments))
    return build_architecture(entry)


def of(entry: BackboneEntry) -> Architecture:
    if entry.keys == "stable_diffusion":
        pytest.importorskip("diffusers")
    if "micro" in entry.source:
        return build_architecture(entry)
    return architecture(entry.source, tuple(entry.arguments.items()))


@pytest.mark.parametrize("key", sorted(CATALOG.backbones))
def test_every_entry_says_what_its_module_is(key: str) -> None:
    entry = CATALOG.backbone(key)
    built = of(entry)
    assert entry.parameters_m == pytest.approx(built.parameters / 1e6, rel=0.005, abs=0.005)
    assert entry.num_features == built.num_features
    assert entry.strides == built.strides
    assert entry.image_size == built.image_size


def one_of_each() -> list[str]:
    """Keys for detection, one per architecture: tags and weights change no map."""
    keys = {
        (entry.source.split(".", 1)[0], tuple(entry.arguments)): key
        for key, entry in sorted(CATALOG.backbones.items())
        if entry.takes("detection") and not entry.source.startswith("bob.backbones.micro:")
    }
    return sorted(keys.values())


@pytest.mark.parametrize("key", one_of_each())
def test_entries_for_detection_give_maps_of_their_strides(key: str) -> None:
    entry = CATALOG.backbone(key)
    if entry.keys == "stable_diffusion":
        pytest.importorskip("diffusers")
    extra = {"pretrained": False} if entry.source.startswith("timm:") else {}
    bare = entry.model_copy(update={"weights": None, "arguments": {**entry.arguments, **extra}})
    # As in the full scale's recipes: plain backbones see one square, the others any size.
    size = (1024, 1024) if len(entry.strides) == 1 else None
    with torch.device("meta"):
        module = make_module(bare, image_size=None, drop_path=0.0)
        backbone: Any = SimpleNamespace(key=key, module=module)
        assert FeatureMaps(backbone, image_size=size).strides == entry.strides


def test_the_paper_is_complete() -> None:
    paper = {key for key, entry in CATALOG.backbones.items() if entry.paper}
    assert len(paper - PAPER_RANDOM) == 38
    assert paper >= PAPER_RANDOM
    for key in PAPER_RANDOM:
        assert not CATALOG.backbone(key).fixed


def test_a_key_and_its_timm_name_are_of_one_family() -> None:
    for entry in CATALOG.backbones.values():
        if entry.source.startswith("timm:"):
            assert entry.family == family_of(entry.source), entry.key


def test_every_key_mapping_is_used_and_known() -> None:
    assert {entry.keys for entry in CATALOG.backbones.values()} - {""} == set(KEY_MAPS)


def test_licences_that_forbid_commercial_use_are_seen() -> None:
    marked = {key for key, entry in CATALOG.backbones.items() if entry.non_commercial}
    assert {"mae_vit_base", "mocov3_vit_base", "vicregl_convnext_xlarge", "hiera_base_ft"} <= marked
    assert not {"resnet50_a1_in1k", "vicreg_resnet50", "dinov2_vit_base"} & marked


def test_what_a_reader_looks_up_does_not_move_an_identity() -> None:
    entry = CATALOG.backbone("mocov3_vit_small")
    facts = {"licence": "mit", "url": "", "parameters_m": 1.0, "tasks": ("knn",), "paper": False}
    assert entry.model_copy(update=facts).identity == entry.identity
    assert entry.model_copy(update={"keys": ""}).identity != entry.identity
    assert "keys" not in CATALOG.backbone("mae_vit_base").identity


def test_no_scale_runs_the_zoo_unasked() -> None:
    keys = {entry.key for entry in Plan(CATALOG, Selection()).backbones}
    assert all("_micro_" in key for key in keys)


def test_tasks_that_an_entry_is_not_made_for_are_not_planned() -> None:
    plan = Plan(CATALOG, Selection(backbones=("sam_vit_base", "hiera_base_mae")))
    assert [case.backbone.key for case in plan.cases("knn")] == ["hiera_base_mae"]
    assert [case.backbone.key for case in plan.cases("detection")] == ["sam_vit_base"]
    alone = Plan(CATALOG, Selection(backbones=("sam_vit_base",)))
    assert alone.cases("knn") == ()
    assert alone.why_none("knn") == "knn is not among the tasks of sam_vit_base"


def test_the_document_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "backbones", "--markdown"]) == 0
    printed = capsys.readouterr().out.strip()
    text = (ROOT / "docs" / "backbones.md").read_text(encoding="utf-8")
    matched = re.search(r"<!-- table -->\n(.*)\n<!-- end of table -->", text, re.DOTALL)
    assert matched is not None
    assert matched.group(1).strip() == printed


def test_only_backbones_have_a_markdown_form(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "tasks", "--markdown"]) == 2
    assert "bob list tasks has no Markdown form" in capsys.readouterr().err
