"""A backbone's feature maps, windows and pyramids."""

from __future__ import annotations

import re
from typing import Any

import pytest
import timm
import torch
from torch import nn

from bob.backbones import Backbone
from bob.case import Case
from bob.catalog import Catalog
from bob.detection.features import FeatureMaps
from bob.detection.pyramid import Pyramid
from bob.detection.windows import WindowedBlock
from bob.errors import BobError
from tests.detection_parts import FAMILIES, full, micro, smoke_recipe


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18", {}),
        ("convnext_atto", {}),
        ("vit_tiny_patch16_224", {"img_size": 128}),
        ("swin_tiny_patch4_window7_224", {"img_size": 224, "always_partition": True}),
    ],
)
def test_maps_are_those_of_features_only(name: str, options: dict[str, Any]) -> None:
    backbone = full(name)
    side = options.get("img_size", 96)
    own = {key: value.clone() for key, value in backbone.module.state_dict().items()}
    maps = FeatureMaps(backbone, image_size=(side, side)).eval()
    reference = timm.create_model(name, features_only=True, **options).eval()
    model: Any = reference
    inner = model.model if hasattr(model, "model") else model
    if "vit" in name:
        inner.pos_embed.data = maps.module.pos_embed.data.clone()
        own.pop("pos_embed")
    flat = {re.sub(r"^(stages|stem|layers)\.", r"\1_", key): own[key] for key in own}
    missing = inner.load_state_dict({**own, **flat}, strict=False).missing_keys
    assert not [key for key in missing if "pos_embed" not in key]
    images = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        wanted, outputs = reference(images), maps(images)
    if "swin" in name:  # channels come last there
        wanted = [feature_map.permute(0, 3, 1, 2) for feature_map in wanted]
    by_shape = {tuple(feature_map.shape): feature_map for feature_map in wanted}
    for feature_map in outputs:
        expected = by_shape[tuple(feature_map.shape)]
        torch.testing.assert_close(feature_map, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_micro_maps_on_larger_images(catalog: Catalog, family: str) -> None:
    backbone = micro(catalog, family)
    maps = FeatureMaps(backbone, image_size=(64, 64))
    sizes = {
        stride: feature_map.shape[-1]
        for stride, feature_map in zip(maps.strides, maps(torch.zeros(1, 3, 64, 64)), strict=True)
    }
    assert sizes == {stride: 64 // stride for stride in maps.strides}
    assert maps.plain == (family == "vit")


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "swinv2_cr_tiny_224"])
def test_windows_need_not_divide_the_image(name: str) -> None:
    backbone = full(name)
    maps = FeatureMaps(backbone, image_size=None if "v2" not in name else (256, 320)).eval()
    size = (160, 224) if "v2" not in name else (256, 320)
    with torch.inference_mode():
        outputs = maps(torch.randn(1, 3, *size))
    assert [tuple(feature_map.shape[-2:]) for feature_map in outputs] == [
        (size[0] // stride, size[1] // stride) for stride in (4, 8, 16, 32)
    ]


def test_one_window_over_the_whole_grid_is_global_attention() -> None:
    torch.manual_seed(0)
    block = timm.create_model("vit_tiny_patch16_224", num_classes=0).blocks[0].eval()
    windowed = WindowedBlock(block, window=6, prefix=1)
    windowed.grid = (6, 6)
    tokens = torch.randn(2, 37, 192)
    torch.testing.assert_close(windowed(tokens), block(tokens), atol=1e-5, rtol=1e-5)
    windowed.grid, windowed.window = (6, 6), 4
    padded = windowed(tokens)
    assert padded.shape == tokens.shape
    assert not torch.allclose(padded, block(tokens), atol=1e-3)


def test_windows_do_not_see_each_other(catalog: Catalog) -> None:
    maps = FeatureMaps(micro(catalog, "vit"), image_size=(64, 64), window=8, global_every=9).eval()
    assert len(maps.blocks) == 3
    images = torch.randn(1, 3, 64, 64)
    changed = images.clone()
    changed[..., 40:, 40:] += 1
    before, after = maps(images)[0], maps(changed)[0]
    moved = (before - after).abs().amax(1)[0] > 1e-3
    assert moved[10:, 10:].all()
    # only the class token, which sees every window, carries anything across
    assert (before - after)[..., :8, :8].abs().mean() < 0.2 * (before - after)[
        ..., 10:, 10:
    ].abs().mean()


def test_tiled_positions_repeat_those_of_pretraining(catalog: Catalog) -> None:
    backbone = micro(catalog, "vit")
    module: Any = backbone.module
    own = module.pos_embed.detach().clone()
    FeatureMaps(backbone, image_size=(64, 64), window=8, tile_positions=True)
    grid = module.pos_embed[:, 1:].reshape(16, 16, -1)
    torch.testing.assert_close(grid[8:, :8].reshape(64, -1), own[0, 1:])
    torch.testing.assert_close(module.pos_embed[:, :1], own[:, :1])


class NoMaps(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))


def test_what_gives_no_maps_is_told_so(catalog: Catalog, cases: dict[str, Case]) -> None:
    backbone = micro(catalog, "vit")
    with pytest.raises(BobError, match=r"no feature maps: .*forward_intermediates.* NoMaps"):
        FeatureMaps(Backbone(**{**vars(backbone), "module": NoMaps()}), image_size=(64, 64))
    with pytest.raises(BobError, match="gives no feature maps of images of 2 x 2"):
        FeatureMaps(backbone, image_size=(2, 2))
    maps = FeatureMaps(micro(catalog, "swin"), image_size=(64, 64))
    with pytest.raises(BobError, match=r"maps of stride 4, 8; .* starts at 2"):
        Pyramid(maps, smoke_recipe(cases, strides=(2, 4, 8)))
    vit = FeatureMaps(micro(catalog, "vit"), image_size=(64, 64))
    with pytest.raises(BobError, match=r"levels of stride 1 to 16; the recipe asks for 8, 16, 32"):
        Pyramid(vit, smoke_recipe(cases, strides=(8, 16, 32), neck="simple"))


@pytest.mark.parametrize("family", FAMILIES)
def test_pyramid_levels(catalog: Catalog, cases: dict[str, Case], family: str) -> None:
    maps = FeatureMaps(micro(catalog, family), image_size=(64, 64))
    recipe = smoke_recipe(cases, strides=(4, 8, 16), neck="auto")
    levels = Pyramid(maps, recipe)(torch.randn(2, 3, 64, 64))
    assert {name: tuple(level.shape) for name, level in levels.items()} == {
        "s4": (2, 32, 16, 16), "s8": (2, 32, 8, 8), "s16": (2, 32, 4, 4), "extra": (2, 32, 2, 2),
    }  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_stages_behind_the_coarsest_map_do_not_run(catalog: Catalog, family: str) -> None:
    whole = FeatureMaps(micro(catalog, family), image_size=(64, 64)).eval()
    part = FeatureMaps(micro(catalog, family), image_size=(64, 64), coarsest=4).eval()
    assert part.strides == tuple(stride for stride in whole.strides if stride <= 4)
    assert part.plain == whole.plain == (family == "vit")
    ran: list[str] = []
    for name, module in part.module.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected, found = whole(images), part(images)
    for expected_map, found_map in zip(expected, found, strict=False):
        torch.testing.assert_close(expected_map, found_map)
    behind = {"swin": "layers.1.", "convnext": "stages.3.", "resnet": "layer2."}.get(family)
    assert ran
    assert behind is None or not any(name.startswith(behind) for name in ran)
