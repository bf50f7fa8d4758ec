"""The encoder of Stable Diffusion and its release."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from bob.backbones import build_backbone
from bob.backbones.checkpoint import load_checkpoint
from bob.catalog import Catalog, Weights
from bob.errors import BobError
from tests import official_layouts as official
from tests.loading import loaded, same, with_file

NARROW: dict[str, Any] = {"unet": (32, 64, 64, 96), "autoencoder": (32, 32, 64, 64), "text": 32}


def narrow_encoder() -> Any:
    from bob.backbones import stable_diffusion as sd

    return sd.StableDiffusionEncoder(
        unet={**sd.UNET, "block_out_channels": NARROW["unet"], "cross_attention_dim": 32},
        autoencoder={**sd.AUTOENCODER, "block_out_channels": NARROW["autoencoder"]},
        text={
            **sd.TEXT, "hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4,
        },
    )  # fmt: skip


class TestStableDiffusion:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("diffusers")
        pytest.importorskip("transformers")

    def test_release_lands_where_it_should(self, catalog: Catalog, tmp_path: Path) -> None:
        entry = catalog.backbone("stable_diffusion_encoder")
        released = official.stable_diffusion(**NARROW, layers=2)
        module = narrow_encoder()
        state = loaded(entry, tmp_path / "sd.ckpt", {"state_dict": released}, module)
        unet, autoencoder = "model.diffusion_model.", "first_stage_model."
        for ours, theirs in {
            "unet.conv_in.weight": unet + "input_blocks.0.0.weight",
            "unet.down_blocks.1.resnets.0.conv_shortcut.weight": unet
            + "input_blocks.4.0.skip_connection.weight",
            "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight": unet
            + "middle_block.1.transformer_blocks.0.attn2.to_k.weight",
            "autoencoder.encoder.mid_block.attentions.0.to_q.weight": autoencoder
            + "encoder.mid.attn_1.q.weight",
            "autoencoder.quant_conv.bias": autoencoder + "quant_conv.bias",
        }.items():
            assert same(state[ours], released[theirs]), ours
        images = torch.randn(2, 3, 64, 64)
        with torch.inference_mode():
            features = module.eval()(images)
            maps = module.forward_intermediates(images)
        assert features.shape == (2, 96)
        assert torch.isfinite(features).all()
        assert [feature_map.shape[1:] for feature_map in maps] == [
            (32, 16, 16), (32, 8, 8), (64, 4, 4), (64, 2, 2), (96, 1, 1),
        ]  # fmt: skip

    def test_half_of_the_unet_is_diffusers_own(self) -> None:
        """The walk through the blocks equals what the whole UNet hands to its other half."""
        from diffusers import UNet2DConditionModel

        module = narrow_encoder().eval()
        whole = UNet2DConditionModel(**dict(module.unet.config)).eval()
        whole.load_state_dict(module.unet.state_dict(), strict=False)
        nn.init.normal_(module.contexts)
        images = torch.randn(2, 3, 128, 128)
        seen: list[torch.Tensor] = []
        whole.mid_block.register_forward_hook(lambda *call: seen.append(call[-1]))
        with torch.inference_mode():
            latents, _ = module._encode(images)
            whole(latents, 0, module.contexts[:1].expand(2, -1, -1))
            features = module(images)
        expected = nn.functional.group_norm(seen[0], 32).mean((2, 3))
        assert torch.allclose(features, expected, atol=1e-5)

    def test_latents_are_the_mean_of_diffusers_own_posterior(self) -> None:
        from diffusers import AutoencoderKL

        module = narrow_encoder().eval()
        whole = AutoencoderKL(**dict(module.autoencoder.config)).eval()
        whole.load_state_dict(module.autoencoder.state_dict(), strict=False)
        images = torch.randn(2, 3, 64, 64)
        with torch.inference_mode():
            expected = whole.encode(images).latent_dist.mean * whole.config.scaling_factor
            assert torch.allclose(module._encode(images)[0], expected, atol=1e-6)

    def test_context_is_what_the_released_text_encoder_says(
        self, catalog: Catalog, tmp_path: Path
    ) -> None:
        entry = catalog.backbone("stable_diffusion_encoder")
        released = official.stable_diffusion(**NARROW, layers=2)
        module = narrow_encoder()
        contexts = loaded(entry, tmp_path / "a.ckpt", released, module)["contexts"].clone()
        assert contexts.shape == (2, 77, 32)
        assert torch.equal(contexts[0, 0], contexts[1, 0])
        assert not torch.allclose(contexts[0, 2], contexts[1, 2])
        word = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
        released[word][14115] += 1.0  # "object": only the prompt of detection has it
        trained = loaded(entry, tmp_path / "b.ckpt", released, module)["contexts"]
        assert torch.equal(trained[0], contexts[0])
        assert not torch.allclose(trained[1], contexts[1])

    def test_layers_below_the_head_learn_slower(self) -> None:
        from timm.optim._param_groups import param_groups_layer_decay

        module = narrow_encoder()
        rates = {
            id(parameter): group["lr_scale"]
            for group in param_groups_layer_decay(module, layer_decay=0.5)
            for parameter in group["params"]
        }
        order = (
            module.autoencoder.encoder.conv_in,
            *(block.resnets[0].conv1 for block in module.unet.down_blocks),
            module.unet.mid_block.resnets[0].conv1,
        )
        scales = [rates[id(part.weight)] for part in order]
        assert scales == sorted(set(scales))
        assert rates[id(module.norm.weight)] == scales[-1]

    def test_a_release_without_its_text_encoder_is_refused(
        self, catalog: Catalog, tmp_path: Path
    ) -> None:
        entry = catalog.backbone("stable_diffusion_encoder")
        released = official.stable_diffusion(**NARROW, layers=2)
        saved = {key: value for key, value in released.items() if "final_layer_norm" not in key}
        with pytest.raises(BobError, match=r"1 missing key \(contexts\)"):
            load_checkpoint(narrow_encoder(), with_file(entry, tmp_path / "sd.ckpt", saved))


def test_without_diffusers_the_case_says_how_to_install_it(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(BobError) as caught:
        build_backbone(catalog.backbone("stable_diffusion_encoder"), image_size=224)
    assert caught.value.kind == "unavailable"
    assert "pip install 'battle-of-backbones[sd]'" in str(caught.value)


def test_objects_beside_the_tensors_of_a_release_are_not_run(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stable Diffusion's file names a class of PyTorch Lightning and holds NumPy scalars."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    run: list[str] = []

    class ModelCheckpoint:
        def __init__(self) -> None:
            run.append("imported and run")

    ModelCheckpoint.__module__, ModelCheckpoint.__qualname__ = name, "ModelCheckpoint"
    fake: Any = types.ModuleType(name)
    fake.ModelCheckpoint = ModelCheckpoint
    for part in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    monkeypatch.setitem(sys.modules, name, fake)
    saved = {
        "state_dict": official.resnet50(),
        "callbacks": {ModelCheckpoint: {"best_model_score": np.float64(0.5)}},
    }
    torch.save(saved, tmp_path / "sd.ckpt")
    update = {"source": "timm:resnet50", "weights": Weights(file=str(tmp_path / "sd.ckpt"))}
    entry = catalog.backbone("stable_diffusion_encoder").model_copy(update=update)
    for part in (name, "pytorch_lightning.callbacks", "pytorch_lightning"):
        monkeypatch.delitem(sys.modules, part)
    module = timm.create_model("resnet50", num_classes=0)
    load_checkpoint(module, entry)
    assert same(module.state_dict()["conv1.weight"], saved["state_dict"]["conv1.weight"])
    assert not run
    remarks = load_checkpoint(module, entry.model_copy(update={"keys": ""}))
    assert not run
    assert f"left unread: numpy._core.multiarray.scalar, numpy.dtype, {name}" in remarks[-1]
