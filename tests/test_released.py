"""Weights as they are released: fetched, read, and brought onto the modules."""

from __future__ import annotations

import sys
import threading
import time
import types
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from bob.backbones import build_backbone
from bob.backbones.checkpoint import load_checkpoint
from bob.backbones.released import weights_file
from bob.backbones.vicregl import vicregl_convnext
from bob.catalog import BackboneEntry, Catalog, Weights
from bob.catalog.release_cache import cache_path
from bob.errors import BobError
from bob.hashing import digest_of_file
from tests import official_layouts as official


def with_file(entry: BackboneEntry, path: Path, saved: object) -> BackboneEntry:
    torch.save(saved, path)
    return entry.model_copy(update={"weights": Weights(file=str(path))})


def loaded(entry: BackboneEntry, path: Path, saved: object, module: nn.Module) -> dict[str, Any]:
    """The module's tensors after loading; one that kept its own value would show as NaN."""
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.fill_(float("nan") if tensor.is_floating_point() else -1)
    load_checkpoint(module, with_file(entry, path, saved))
    state: dict[str, Any] = module.state_dict()
    assert not [key for key, value in state.items() if torch.isnan(value).any()]
    return state


def same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.equal(found.float().flatten(), expected.float().flatten())


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
    made = build_backbone(with_file(entry, tmp_path / "vit.pth.tar", saved), image_size=96)
    assert made.image_size == 96
    assert made.module.pos_embed.shape == (1, 1 + 36, 384)
    assert made.mean == (0.485, 0.456, 0.406)


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
    made = with_file(entry, tmp_path / "resnet50.pth", official.resnet50())
    with pytest.raises(BobError) as caught:
        build_backbone(made, image_size=224)
    assert caught.value.kind == "weights"
    assert "150 missing keys (cls_token, " in str(caught.value)
    assert "318 unknown keys (conv1.weight, " in str(caught.value)


def test_unknown_mapping_offers_the_nearest(catalog: Catalog, tmp_path: Path) -> None:
    entry = catalog.backbone("mocov3_resnet50").model_copy(update={"keys": "mocov2"})
    with pytest.raises(BobError, match="Did you mean 'mocov3'"):
        build_backbone(with_file(entry, tmp_path / "x.pth", {}), image_size=224)


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
        assert [one.shape[1:] for one in maps] == [
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
        other = loaded(entry, tmp_path / "b.ckpt", released, module)["contexts"]
        assert torch.equal(other[0], contexts[0])
        assert not torch.allclose(other[1], contexts[1])

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
        with pytest.raises(BobError, match=r"1 missing keys \(contexts\)"):
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
    with pytest.raises(BobError, match="a checkpoint is input, not code"):
        load_checkpoint(module, entry.model_copy(update={"keys": ""}))


class Server(HTTPServer):
    """Serves one file, and counts."""

    content = b""
    claimed = 0
    asked = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.send_error(405)

    def do_GET(self) -> None:
        self.server.asked += 1
        if "gone" in self.path:
            return self.send_error(404)
        self.send_response(200)
        length = self.server.claimed or len(self.server.content)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(self.server.content)
        return None

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with Server(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def released_entry(url: str, sha256: str | None = None) -> BackboneEntry:
    return BackboneEntry(
        key="mine",
        family="resnet",
        source="bob.backbones.micro:resnet_micro",
        weights=Weights(url=url, sha256=sha256),
    )


def test_a_release_is_fetched_once(server: Server, tmp_path: Path) -> None:
    from bob.backbones.micro import resnet_micro

    state = resnet_micro().state_dict()
    torch.save(state, tmp_path / "local.pth")
    server.content = (tmp_path / "local.pth").read_bytes()
    url = f"http://127.0.0.1:{server.server_port}/vicreg/resnet50.pth"
    digest = digest_of_file(tmp_path / "local.pth")
    for _ in range(2):
        made = build_backbone(released_entry(url), image_size=32)
        assert torch.equal(made.module.conv1.weight, state["conv1.weight"])
        assert made.weights_digest == digest
    assert server.asked == 1
    assert weights_file(released_entry(url, digest)) == cache_path(url)
    assert cache_path(url).parts[-2:] == ("vicreg", "resnet50.pth")
    other = f"http://127.0.0.1:{server.server_port}/barlow/resnet50.pth"
    assert cache_path(other) != cache_path(url)


def unavailable(entry: BackboneEntry) -> str:
    with pytest.raises(BobError) as caught:
        build_backbone(entry, image_size=32)
    assert caught.value.kind == "unavailable"
    return str(caught.value)


def test_a_release_that_is_gone_says_what_to_put_where(server: Server) -> None:
    url = f"http://127.0.0.1:{server.server_port}/gone/resnet50.pth"
    message = unavailable(released_entry(url))
    assert url in message
    assert str(cache_path(url)) in message
    assert "--backbone mine,checkpoint=FILE" in message


def test_a_cache_that_cannot_be_written_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "torch").write_text("a file where the cache should be")
    message = unavailable(released_entry(f"http://127.0.0.1:{server.server_port}/w.pth"))
    assert "NotADirectoryError" in message


def test_half_a_download_is_not_kept(server: Server) -> None:
    server.content, server.claimed = b"half", 8
    url = f"http://127.0.0.1:{server.server_port}/w.pth"
    assert "4 of 8 bytes" in unavailable(released_entry(url))
    assert [path.name for path in cache_path(url).parent.iterdir()] == ["w.pth.lock"]


def test_another_file_than_released_is_refused(server: Server) -> None:
    server.content = b"something else"
    url = f"http://127.0.0.1:{server.server_port}/w.pth"
    with pytest.raises(BobError, match=r"came with SHA-256 .* the catalog says 000000000000"):
        build_backbone(released_entry(url, "0" * 64), image_size=32)
    assert not cache_path(url).exists()


def test_no_network_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    started = time.monotonic()
    for name in ("a.pth", "b.pth"):
        assert "Connection refused" in unavailable(released_entry(f"http://127.0.0.1:9/{name}"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    hub = BackboneEntry(key="hub", family="resnet", source="timm:resnet18.a1_in1k")
    assert "hf download timm/resnet18.a1_in1k" in unavailable(hub)
    assert "--backbone hub,checkpoint=FILE" in unavailable(hub)
    assert time.monotonic() - started < 10


def test_a_weight_lies_in_one_place() -> None:
    for fields in ({}, {"file": "a.pth", "url": "https://b/c.pth"}):
        with pytest.raises(ValueError, match="give either file or url"):
            Weights.model_validate(fields)
