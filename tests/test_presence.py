"""What is there already: data, weights, kept features."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bob.catalog import Catalog
from bob.catalog.schema import Weights
from bob.cost import Speeds, estimate
from bob.cost.present import Shelf, data_state, weights_state
from bob.plan import Plan, Selection


def test_presence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, catalog: Catalog) -> None:
    monkeypatch.setenv("BOB_DATA", str(tmp_path / "data"))
    coco = catalog.dataset("coco")
    for need in coco.needs:
        place = tmp_path / "data" / need.split("|")[0]
        assert data_state(coco) == f"no {tmp_path / 'data'}/{need.replace('|', ' or ')}"
        (place / "inside").mkdir(parents=True)
    assert data_state(coco) == "there"
    assert data_state(catalog.dataset("digits")) == "there"
    assert weights_state(catalog.backbone("vit_micro_glyphs")) == "file"
    assert weights_state(catalog.backbone("vit_micro_random")) == "random"
    missing = catalog.backbone("vit_micro_glyphs").model_copy(
        update={"weights": Weights(file=str(tmp_path / "gone.safetensors"))}
    )
    assert weights_state(missing) == "missing"


def test_weights_in_the_hubs_cache(tmp_path: Path) -> None:
    """A fresh process, because the hub's library reads its folder once."""
    snapshot = tmp_path / "hub" / "models--timm--vit_base_patch16_224.mae" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"x")
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    code = (
        "from bob.cost.present import weights_state\n"
        "from bob.catalog import BackboneEntry\n"
        "for name in ('vit_base_patch16_224.mae', 'vit_base_patch16_224', 'resnet50.a1_in1k'):\n"
        "    print(weights_state(BackboneEntry(key='x', family='x', source='timm:' + name)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"HF_HOME": str(tmp_path), "PATH": "", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split("\n")[:3] == ["cached", "cached", "to download"]


def test_kept_features_are_seen_and_save_their_pass(tmp_path: Path, catalog: Catalog) -> None:
    from bob.case import Context
    from bob.run import run_case

    plan = Plan(catalog, Selection(backbones=("vit_micro_glyphs", "vit_micro_random")))
    fixed, random = (
        next(case for case in plan.cases("knn") if case.backbone.key == key)
        for key in ("vit_micro_glyphs", "vit_micro_random")
    )
    shelf = Shelf(tmp_path / "references", tmp_path / "features")
    assert shelf.look(fixed).features == frozenset()
    for case in (fixed, random):
        result = run_case(case, Context(features=str(tmp_path / "features")))
        assert result.failure is None
    shelf = Shelf(tmp_path / "references", tmp_path / "features")
    assert shelf.look(fixed).features == {"train", "test"}
    assert shelf.look(random).features == frozenset()  # their weights are not known beforehand
    other = plan.cases("ood")[0]
    assert shelf.look(other).features == frozenset()
    assert estimate(fixed, Speeds(), stored=shelf.look(fixed).features).hours == 0
