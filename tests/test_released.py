"""Weights as they are released: fetched, read, and brought onto the modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from bob.backbones import build_backbone
from bob.backbones.vicregl import vicregl_convnext
from bob.catalog import Catalog
from bob.errors import BobError
from tests import official_layouts as official
from tests.loading import loaded, same, with_file


@pytest.mark.parametrize(("key", "width"), [("mocov3_vit_small", 384), ("mocov3_vit_base", 768)])
def test_moco_vits(catalog: Catalog, tmp_path: Path, key: str, width: int) -> None:
    entry = catalog.backbone(key)
    module: Any = timm.create_model(
        entry.source.removeprefix("timm:"), num_classes=0, **entry.arguments
    )
    assert module.blocks[0].attn.num_heads == 12
    released = official.moco_vit(width, 12, 14)
    saved = {"epoch": 300, "arch": "vit", "state_dict": released, "optimizer": {"state": {}}}
    state = loaded(entry, tmp_path / "vit.pth.tar", saved, module)
    base = "module.base_encoder."
    assert all(same(state[name], released[base + name]) for name in state)
    assert torch.equal(state["pos_embed"], official.sine_cosine_positions(width, 14))


def test_moco_resnet(catalog: Catalog, tmp_path: Path) -> None:
    base = official.resnet50()
    released = {f"module.base_encoder.{key}": value for key, value in base.items()}
    released |= {f"module.momentum_encoder.{key}": value * 0 for key, value in base.items()}
    heads = official.mlp("module.base_encoder.fc", 2, 2048)
    released |= official.numbered(heads | official.mlp("module.predictor", 2, 8))
    module = timm.create_model("resnet50", num_classes=0)
    entry = catalog.backbone("mocov3_resnet50")
    saved = {"epoch": 1000, "arch": "resnet50", "state_dict": released, "optimizer": {}}
    state = loaded(entry, tmp_path / "r-50.pth.tar", saved, module)
    assert all(same(state[name], base[name]) for name in state)


@pytest.mark.parametrize("key", ["dino_resnet50", "vicreg_resnet50"])
def test_plain_resnets(catalog: Catalog, tmp_path: Path, key: str) -> None:
    released = official.resnet50()
    module = timm.create_model("resnet50", num_classes=0)
    state = loaded(catalog.backbone(key), tmp_path / "resnet50.pth", released, module)
    assert state.keys() == released.keys()
    assert all(same(state[name], released[name]) for name in state)


def test_vicregl(catalog: Catalog, tmp_path: Path) -> None:
    entry = catalog.backbone("vicregl_convnext_xlarge")
    widths = (8, 16, 24, 32)
    module: Any = vicregl_convnext(widths)
    released = official.vicregl_convnext((3, 3, 27, 3), widths)
    state = loaded(entry, tmp_path / "convnext.pth", released, module)
    assert len(state) == len(released)
    for ours, theirs in {
        "stem.0.weight": "downsample_layers.0.0.weight",
        "stages.2.downsample.1.bias": "downsample_layers.2.1.bias",
        "stages.2.blocks.26.conv_dw.weight": "stages.2.26.dwconv.weight",
        "stages.3.blocks.1.mlp.fc2.weight": "stages.3.1.pwconv2.weight",
        "norm_pre.weight": "norm.weight",
    }.items():
        assert same(state[ours], released[theirs])
    # its pooled feature is the mean of normalised positions, not the normalised mean
    nn.init.normal_(module.stem[0].weight)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        positions = module.eval().stages(module.stem(images)).permute(0, 2, 3, 1)
        norm = module.norm_pre
        expected = nn.functional.layer_norm(positions, (32,), norm.weight, norm.bias, 1e-6)
        assert torch.allclose(module(images), expected.mean((1, 2)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("key", ["midas_swinv2_tiny_256", "midas_swinv2_base_384"])
def test_midas(catalog: Catalog, tmp_path: Path, key: str) -> None:
    entry = catalog.backbone(key)
    depths = (2, 2, 6, 2) if "tiny" in key else (2, 2, 18, 2)
    heads = (1, 2, 4, 8)
    module: Any = timm.create_model(
        entry.source.removeprefix("timm:"), num_classes=0, embed_dim=8, num_heads=heads
    )
    released = official.midas_swin(8, depths, heads, 16 if "tiny" in key else 24)
    state = loaded(entry, tmp_path / "dpt.pt", released, module)
    root = "pretrained.model."
    for ours, theirs in {
        "patch_embed.proj.weight": "patch_embed.proj.weight",
        "layers.1.downsample.reduction.weight": "layers.0.downsample.reduction.weight",
        "layers.3.downsample.norm.bias": "layers.2.downsample.norm.bias",
        "layers.0.blocks.1.attn.logit_scale": "layers.0.blocks.1.attn.logit_scale",
        "layers.2.blocks.5.attn.q_bias": "layers.2.blocks.5.attn.q_bias",
        "norm.weight": "norm.weight",
    }.items():
        assert same(state[ours], released[root + theirs])


def test_positions_follow_the_size_images_are_fed_at(catalog: Catalog, tmp_path: Path) -> None:
    entry = catalog.backbone("mocov3_vit_small")
    saved = {"state_dict": official.moco_vit(384, 12, 14)}
    for key in saved["state_dict"]:
        if "pos_embed" not in key:
            saved["state_dict"][key] *= 1e-6
    backbone = build_backbone(with_file(entry, tmp_path / "vit.pth.tar", saved), image_size=96)
    assert backbone.image_size == 96
    assert backbone.module.pos_embed.shape == (1, 1 + 36, 384)
    assert backbone.mean == (0.485, 0.456, 0.406)


def test_what_was_trained_on_from_a_release_fits_the_same_entry(
    catalog: Catalog, tmp_path: Path
) -> None:
    entry = catalog.backbone("mocov3_vit_small")
    make = lambda: timm.create_model("vit_small_patch16_224", num_heads=12, num_classes=0)  # noqa: E731
    own = make().state_dict()
    state = loaded(entry, tmp_path / "tuned.pth", {"state_dict": own}, make())
    assert all(torch.equal(state[name], own[name]) for name in own)


def test_another_release_is_told_by_its_own_keys(catalog: Catalog, tmp_path: Path) -> None:
    entry = catalog.backbone("mocov3_vit_small")
    resnet_entry = with_file(entry, tmp_path / "resnet50.pth", official.resnet50())
    with pytest.raises(BobError) as caught:
        build_backbone(resnet_entry, image_size=224)
    assert caught.value.kind == "weights"
    assert "150 missing keys (cls_token, " in str(caught.value)
    assert "318 unknown keys (conv1.weight, " in str(caught.value)


def test_unknown_mapping_offers_the_nearest(catalog: Catalog, tmp_path: Path) -> None:
    entry = catalog.backbone("mocov3_resnet50").model_copy(update={"keys": "mocov2"})
    with pytest.raises(BobError, match="Did you mean 'mocov3'"):
        build_backbone(with_file(entry, tmp_path / "x.pth", {}), image_size=224)
