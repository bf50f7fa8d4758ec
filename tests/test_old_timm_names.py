"""Names that timm has given up: followed and said."""

from __future__ import annotations

from typing import Any

import pytest
import timm

from bob.backbones import build_backbone
from bob.catalog import Catalog, parse_backbone
from bob.errors import BobError


class TestTimmsOldNames:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("vit_small_patch16_224_dino", "vit_small_patch16_224.dino"),
            ("tf_efficientnet_b0_ns", "tf_efficientnet_b0.ns_jft_in1k"),
        ],
    )
    def test_are_followed_and_said(self, catalog: Catalog, old: str, new: str) -> None:
        entry = parse_backbone(f"timm:{old},pretrained=false", catalog)
        backbone = build_backbone(entry, image_size=64)
        assert backbone.remarks == (f"timm calls {old} {new} now, which is what ran",)
        config: Any = backbone.module.pretrained_cfg
        assert f"{config['architecture']}.{config['tag']}" == new

    def test_weights_are_those_of_the_new_name(
        self, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(BobError) as caught:
            build_backbone(parse_backbone("timm:convnext_base_in22k", catalog), image_size=64)
        assert caught.value.kind == "unavailable"
        assert "hf download timm/convnext_base.fb_in22k`" in str(caught.value)

    def test_an_old_name_takes_no_tag(self, catalog: Catalog) -> None:
        with pytest.raises(BobError, match=r"write timm:vit_base_patch16_224\.dino"):
            build_backbone(
                parse_backbone("timm:vit_base_patch16_224_dino.x", catalog), image_size=9
            )

    def test_no_weights_leads_to_random_ones_by_that_word(self, catalog: Catalog) -> None:
        bare = next(
            name for name in timm.list_models("vit_*") if not timm.list_pretrained(f"{name}*")
        )
        with pytest.raises(BobError, match="is the model with random weights, untrained"):
            build_backbone(parse_backbone(f"timm:{bare}", catalog), image_size=64)
