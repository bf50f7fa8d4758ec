"""The encoder of Stable Diffusion v1 as a backbone, from diffusers' own classes.

As in the paper's code: an image becomes the latents of the autoencoder, which go through the first
half of the UNet at timestep 0, told in words what they are for. Source: R. Rombach et al., CVPR
2022, and the configuration of its release 1.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from bob.errors import BobError

LATENT_SCALE = 0.18215
UNET = {
    "sample_size": 64,
    "layers_per_block": 2,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
AUTOENCODER = {
    "sample_size": 512,
    "layers_per_block": 2,
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "latent_channels": 4,
}
TEXT = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
}
_START, _END = 49406, 49407
PROMPTS = {"image classification": (2867, 26612), "object detection": (14115, 16220)}
"""What the UNet is told, in the paper's words, and the words' numbers in CLIP's vocabulary."""

_TEXT_PREFIX = "cond_stage_model.transformer."


def stable_diffusion_encoder() -> nn.Module:
    """Stable Diffusion v1's encoder; of use with the weights of its release alone.

    Raises:
        BobError: diffusers or transformers is not installed; ``kind`` is ``unavailable``.
    """
    return StableDiffusionEncoder(unet=UNET, autoencoder=AUTOENCODER, text=TEXT)


class StableDiffusionEncoder(nn.Module):
    """Autoencoder's encoder and the UNet's way down, with the middle.

    Images are ``(batch, 3, size, size)`` in -1..1 with sides that are multiples of 64. Latents are
    the mean of the autoencoder's posterior: nothing is drawn.

    Args:
        unet: Arguments of diffusers' ``UNet2DConditionModel``.
        autoencoder: Arguments of diffusers' ``AutoencoderKL``.
        text: Arguments of transformers' ``CLIPTextConfig``.

    Attributes:
        contexts: What CLIP's text encoder makes of ``PROMPTS``, ``(2, tokens, channels)``; zeros
            until weights are loaded.
    """

    contexts: torch.Tensor

    def __init__(
        self, *, unet: Mapping[str, Any], autoencoder: Mapping[str, Any], text: Mapping[str, Any]
    ) -> None:
        super().__init__()
        models = _import("diffusers")
        with torch.device("meta"):
            self.unet: Any = models.UNet2DConditionModel(**unet)
            self.autoencoder: Any = models.AutoencoderKL(**autoencoder)
        self.text_config = dict(text)
        del self.unet.up_blocks, self.unet.conv_norm_out, self.unet.conv_out
        del self.autoencoder.decoder, self.autoencoder.post_quant_conv
        _initialise(self.unet)
        _initialise(self.autoencoder)
        widths = unet["block_out_channels"]
        self.num_features = int(widths[-1])
        self.norm = nn.GroupNorm(32, self.num_features)
        shape = (len(PROMPTS), text["max_position_embeddings"], text["hidden_size"])
        self.register_buffer("contexts", torch.zeros(shape))
        channels = (autoencoder["block_out_channels"][1], *widths)
        self.feature_info = [
            {"num_chs": count, "reduction": 4 << level} for level, count in enumerate(channels)
        ]
        self.pretrained_cfg = {"input_size": (3, 256, 256)}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images to pooled features ``(batch, num_features)``."""
        last = self._maps(images, "image classification")[-1]
        features: torch.Tensor = self.norm(last).mean((2, 3))
        return features

    def forward_intermediates(
        self,
        images: torch.Tensor,
        *,
        indices: Sequence[int] | None = None,
        output_fmt: str = "NCHW",
        intermediates_only: bool = True,
    ) -> list[torch.Tensor]:
        """The autoencoder's map of stride 4 and the UNet's of strides 8 to 64."""
        if output_fmt != "NCHW" or not intermediates_only:
            raise ValueError("only maps, and only as NCHW")
        maps = self._maps(images, "object detection")
        return maps if indices is None else [maps[index] for index in indices]

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Layers for layer-wise learning rates, as timm asks its own models for them."""
        return {
            "stem": r"^autoencoder|^unet\.(?:conv_in|time_embedding)",
            "blocks": [
                (r"^unet\.down_blocks\.(\d+)", None),
                (r"^unet\.mid_block", (99998,)),
                (r"^norm", (99999,)),
            ],
        }

    def _maps(self, images: torch.Tensor, prompt: str) -> list[torch.Tensor]:
        latents, finest = self._encode(images)
        context = self.contexts[list(PROMPTS).index(prompt)].to(latents.dtype)
        context = context.expand(len(images), -1, -1)
        time = self.unet.time_proj(latents.new_zeros(len(images))).to(latents.dtype)
        time = self.unet.time_embedding(time)
        maps = [finest]
        hidden = self.unet.conv_in(latents)
        for block in self.unet.down_blocks:
            words = {"encoder_hidden_states": context} if _attends(block) else {}
            hidden, states = block(hidden_states=hidden, temb=time, **words)
            # the last state of a block that downsamples is already of the next stride
            maps.append(states[-2 if block.downsamplers else -1])
        maps[-1] = self.unet.mid_block(hidden, time, encoder_hidden_states=context)
        return maps

    def _encode(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents ``(b, 4, h/8, w/8)``, and the encoder's map of stride 4."""
        encoder = self.autoencoder.encoder
        hidden = encoder.conv_in(images)
        outputs = []
        for block in encoder.down_blocks:
            hidden = block(hidden)
            outputs.append(hidden)
        hidden = encoder.conv_act(encoder.conv_norm_out(encoder.mid_block(hidden)))
        mean, _ = self.autoencoder.quant_conv(encoder.conv_out(hidden)).chunk(2, dim=1)
        return mean * LATENT_SCALE, outputs[1]


def from_release(state: dict[str, torch.Tensor], module: nn.Module) -> dict[str, torch.Tensor]:
    """A release's tensors (``model.diffusion_model.*``, ...) → those of the encoder.

    diffusers renames; the text encoder is run once on ``PROMPTS`` and not kept. The last norm is
    not in the release and starts as the identity, as in the paper's code.
    """
    if not any(key.startswith("model.diffusion_model.") for key in state):
        return state
    assert isinstance(module, StableDiffusionEncoder)
    rename = _import("diffusers.loaders.single_file_utils")
    wanted = module.state_dict()
    parts = {
        "unet": rename.convert_ldm_unet_checkpoint(dict(state), dict(module.unet.config)),
        "autoencoder": rename.convert_ldm_vae_checkpoint(
            dict(state), dict(module.autoencoder.config)
        ),
    }
    converted = {
        f"{part}.{key}": value
        for part, tensors in parts.items()
        for key, value in tensors.items()
        if f"{part}.{key}" in wanted
    }
    contexts = _contexts(state, module.text_config)
    if contexts is not None:
        converted["contexts"] = contexts
    size = module.num_features
    return {**converted, "norm.weight": torch.ones(size), "norm.bias": torch.zeros(size)}


def _contexts(
    state: dict[str, torch.Tensor], text_config: Mapping[str, Any]
) -> torch.Tensor | None:
    """CLIP's last hidden states of the prompts, or none if the text encoder is not all there."""
    models = _import("transformers")
    encoder = models.CLIPTextModel(models.CLIPTextConfig(**text_config)).eval()
    wanted = encoder.state_dict()
    # transformers had the prefix `text_model.` until version 5
    own = "text_model." if any(key.startswith("text_model.") for key in wanted) else ""
    text_state = {
        own + key.removeprefix(_TEXT_PREFIX).removeprefix("text_model."): value
        for key, value in state.items()
        if key.startswith(_TEXT_PREFIX)
    }
    text_state = {key: value.float() for key, value in text_state.items() if key in wanted}
    missing, _ = encoder.load_state_dict(text_state, strict=False)
    if [key for key in missing if not key.endswith("position_ids")]:
        return None
    length = text_config["max_position_embeddings"]
    rows = []
    for words in PROMPTS.values():
        ids = [_START, *words]
        rows.append(ids + [_END] * (length - len(ids)))
    with torch.inference_mode():
        hidden: torch.Tensor = encoder(input_ids=torch.tensor(rows)).last_hidden_state
    return hidden.clone()


def _attends(block: nn.Module) -> bool:
    return bool(getattr(block, "has_cross_attention", False))


def _initialise(module: nn.Module) -> None:
    """Memory and initial values where the module is wanted, for what is left of it."""
    device = torch.get_default_device()
    if device.type == "meta":
        return
    module.to_empty(device=device)
    for part in module.modules():
        reset: Any = getattr(part, "reset_parameters", None)
        if callable(reset):
            reset()


def _import(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BobError(
            f"Stable Diffusion needs diffusers and transformers ({error}). Install them: "
            "pip install 'battle-of-backbones[sd]'.",
            kind="unavailable",
        ) from None
