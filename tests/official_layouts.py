"""Checkpoints in the layouts their publishers document, with values that tell tensors apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count

import torch

Shapes = dict[str, tuple[int, ...]]
State = dict[str, torch.Tensor]


def numbered(shapes: Mapping[str, tuple[int, ...]]) -> State:
    """Every tensor filled with a number of its own."""
    numbers = count(1)
    return {key: torch.full(shape, float(next(numbers))) for key, shape in shapes.items()}


def _affine(name: str, size: int) -> Shapes:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _linear(name: str, out: int, inner: int, *, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (out, inner)} | ({f"{name}.bias": (out,)} if bias else {})


def _conv(name: str, out: int, inner: int, side: int) -> Shapes:
    return {f"{name}.weight": (out, inner, side, side), f"{name}.bias": (out,)}


def sine_cosine_positions(width: int, side: int) -> torch.Tensor:
    """MoCo v3's fixed positions, a zero class token before them: ``(1, 1 + side², width)``."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    rates = 1.0 / 10000 ** (torch.arange(width // 4) / (width // 4))
    angles = [grid.flatten()[:, None] * rates for grid in (rows, columns)]
    waves = [wave(angle) for angle in angles for wave in (torch.sin, torch.cos)]
    return torch.cat([torch.zeros(1, width), torch.cat(waves, dim=1)])[None]


def moco_vit(width: int, depth: int, side: int) -> State:
    """``vit-s-300ep.pth.tar`` under ``state_dict``: two encoders with projectors, a predictor."""

    def encoder(name: str) -> Shapes:
        shapes: Shapes = {
            f"{name}.cls_token": (1, 1, width),
            f"{name}.pos_embed": (1, 1 + side**2, width),
            **_conv(f"{name}.patch_embed.proj", width, 3, 16),
        }
        for block in (f"{name}.blocks.{index}" for index in range(depth)):
            shapes |= _affine(f"{block}.norm1", width) | _linear(
                f"{block}.attn.qkv", 3 * width, width
            )
            shapes |= _linear(f"{block}.attn.proj", width, width)
            shapes |= _affine(f"{block}.norm2", width)
            shapes |= _linear(f"{block}.mlp.fc1", 4 * width, width)
            shapes |= _linear(f"{block}.mlp.fc2", width, 4 * width)
        return shapes | _affine(f"{name}.norm", width) | mlp(f"{name}.head", 3, width)

    state = numbered(
        encoder("module.base_encoder")
        | encoder("module.momentum_encoder")
        | mlp("module.predictor", 2, 8)
    )
    state["module.base_encoder.pos_embed"] = sine_cosine_positions(width, side)
    return state


def mlp(name: str, layers: int, width: int) -> Shapes:
    """MoCo v3's projectors: bias-free layers, each with a batch norm behind it."""
    shapes: Shapes = {}
    for layer in range(layers):
        shapes |= _linear(f"{name}.{3 * layer}", 8, width if layer == 0 else 8, bias=False)
        norm = f"{name}.{3 * layer + 1}"
        shapes |= _affine(norm, 8) if layer < layers - 1 else {}
        shapes |= {f"{norm}.running_mean": (8,), f"{norm}.running_var": (8,)}
        shapes |= {f"{norm}.num_batches_tracked": ()}
    return shapes


def resnet50() -> State:
    """torchvision's own names and shapes, without the classifier."""
    from torchvision.models import resnet50 as make

    state = make().state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items() if not key.startswith("fc.")}
    return {key: value.to(state[key].dtype) for key, value in numbered(shapes).items()}


def vicregl_convnext(depths: Sequence[int], widths: Sequence[int]) -> State:
    """``convnext_xlarge_alpha0.75.pth``: the original names, no layer scale, no head."""
    shapes = _conv("downsample_layers.0.0", widths[0], 3, 4)
    shapes |= _affine("downsample_layers.0.1", widths[0])
    for stage in range(1, 4):
        shapes |= _affine(f"downsample_layers.{stage}.0", widths[stage - 1])
        shapes |= _conv(f"downsample_layers.{stage}.1", widths[stage], widths[stage - 1], 2)
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        for block in (f"stages.{stage}.{index}" for index in range(depth)):
            shapes |= _conv(f"{block}.dwconv", width, 1, 7) | _affine(f"{block}.norm", width)
            shapes |= _linear(f"{block}.pwconv1", 4 * width, width)
            shapes |= _linear(f"{block}.pwconv2", width, 4 * width)
    return numbered(shapes | _affine("norm", widths[-1]))


def midas_swin(width: int, depths: Sequence[int], heads: Sequence[int], window: int) -> State:
    """``dpt_swin2_tiny_256.pt``: a SwinV2 of timm 0.6 with its buffers, and DPT's decoder."""
    root = "pretrained.model"
    shapes = _conv(f"{root}.patch_embed.proj", width, 3, 4)
    shapes |= _affine(f"{root}.patch_embed.norm", width)
    for layer, depth in enumerate(depths):
        size = width * 2**layer
        for index in range(depth):
            block = f"{root}.layers.{layer}.blocks.{index}"
            shapes |= {f"{block}.attn_mask": (4, window**2, window**2)} if index % 2 else {}
            shapes |= {
                f"{block}.attn.logit_scale": (heads[layer], 1, 1),
                f"{block}.attn.q_bias": (size,),
                f"{block}.attn.v_bias": (size,),
                f"{block}.attn.relative_coords_table": (1, 2 * window - 1, 2 * window - 1, 2),
                f"{block}.attn.relative_position_index": (window**2, window**2),
            }
            shapes |= _linear(f"{block}.attn.cpb_mlp.0", 512, 2)
            shapes |= _linear(f"{block}.attn.cpb_mlp.2", heads[layer], 512, bias=False)
            shapes |= _linear(f"{block}.attn.qkv", 3 * size, size, bias=False)
            shapes |= _linear(f"{block}.attn.proj", size, size)
            shapes |= _affine(f"{block}.norm1", size) | _affine(f"{block}.norm2", size)
            shapes |= _linear(f"{block}.mlp.fc1", 4 * size, size)
            shapes |= _linear(f"{block}.mlp.fc2", size, 4 * size)
        if layer < len(depths) - 1:
            down = f"{root}.layers.{layer}.downsample"
            shapes |= _linear(f"{down}.reduction", 2 * size, 4 * size, bias=False)
            shapes |= _affine(f"{down}.norm", 2 * size)
    last = width * 2 ** (len(depths) - 1)
    shapes |= _affine(f"{root}.norm", last) | _linear(f"{root}.head", 10, last)
    for index in range(1, 5):
        shapes |= _conv(f"scratch.refinenet{index}.out_conv", 8, 8, 1)
        shapes |= {f"scratch.layer{index}_rn.weight": (8, 8, 3, 3)}
    return numbered(shapes | _conv("scratch.output_conv.0", 4, 8, 3))


def stable_diffusion(
    unet: Sequence[int], autoencoder: Sequence[int], text: int, layers: int
) -> State:
    """``sd-v1-4.ckpt`` under ``state_dict``: UNet, autoencoder, text encoder, the noise schedule.

    Values are small random numbers, because this one is run. Parts that an encoder has no use for
    have the names of the release and shapes of one number.
    """
    draw = torch.Generator().manual_seed(0)
    shapes = dict(_ldm_unet(unet, text)) | dict(_ldm_autoencoder(autoencoder))
    shapes |= dict(_clip_text(text, layers))
    state = {key: 0.05 * torch.randn(shape, generator=draw) for key, shape in shapes.items()}
    prefix = "cond_stage_model.transformer.text_model"
    state[f"{prefix}.embeddings.position_ids"] = torch.arange(77)[None]
    return state | {"betas": torch.ones(1000), "alphas_cumprod": torch.ones(1000)}


def _ldm_unet(widths: Sequence[int], text: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    root, first = "model.diffusion_model", widths[0]

    def resnet(name: str, before: int, after: int) -> Shapes:
        shapes = _affine(f"{name}.in_layers.0", before) | _conv(
            f"{name}.in_layers.2", after, before, 3
        )
        shapes |= _linear(f"{name}.emb_layers.1", after, 4 * first)
        shapes |= _affine(f"{name}.out_layers.0", after)
        shapes |= _conv(f"{name}.out_layers.3", after, after, 3)
        return shapes | (
            _conv(f"{name}.skip_connection", after, before, 1) if before != after else {}
        )

    def transformer(name: str, size: int) -> Shapes:
        shapes = _affine(f"{name}.norm", size) | _conv(f"{name}.proj_in", size, size, 1)
        inner = f"{name}.transformer_blocks.0"
        for attention, source in (("attn1", size), ("attn2", text)):
            shapes |= _linear(f"{inner}.{attention}.to_q", size, size, bias=False)
            shapes |= _linear(f"{inner}.{attention}.to_k", size, source, bias=False)
            shapes |= _linear(f"{inner}.{attention}.to_v", size, source, bias=False)
            shapes |= _linear(f"{inner}.{attention}.to_out.0", size, size)
        shapes |= _linear(f"{inner}.ff.net.0.proj", 8 * size, size)
        shapes |= _linear(f"{inner}.ff.net.2", size, 4 * size)
        for index in (1, 2, 3):
            shapes |= _affine(f"{inner}.norm{index}", size)
        return shapes | _conv(f"{name}.proj_out", size, size, 1)

    shapes = _linear(f"{root}.time_embed.0", 4 * first, first)
    shapes |= _linear(f"{root}.time_embed.2", 4 * first, 4 * first)
    shapes |= _conv(f"{root}.input_blocks.0.0", first, 4, 3)
    place, before = 1, first
    for level, size in enumerate(widths):
        for _ in range(2):
            shapes |= resnet(f"{root}.input_blocks.{place}.0", before, size)
            if level < 3:
                shapes |= transformer(f"{root}.input_blocks.{place}.1", size)
            place, before = place + 1, size
        if level < 3:
            shapes |= _conv(f"{root}.input_blocks.{place}.0.op", size, size, 3)
            place += 1
    shapes |= resnet(f"{root}.middle_block.0", before, before)
    shapes |= transformer(f"{root}.middle_block.1", before)
    shapes |= resnet(f"{root}.middle_block.2", before, before)
    for block in range(12):
        for key in (*resnet("0", 1, 2), *(transformer("1", 1) if block > 2 else ())):
            shapes[f"{root}.output_blocks.{block}.{key}"] = (1,)
        if block in (2, 5, 8):
            shapes |= _conv(f"{root}.output_blocks.{block}.{1 if block == 2 else 2}.conv", 1, 1, 1)
    shapes |= _affine(f"{root}.out.0", 1) | _conv(f"{root}.out.2", 1, 1, 1)
    yield from shapes.items()


def _ldm_autoencoder(widths: Sequence[int]) -> Iterator[tuple[str, tuple[int, ...]]]:
    root = "first_stage_model"

    def resnet(name: str, before: int, after: int) -> Shapes:
        shapes = _affine(f"{name}.norm1", before) | _conv(f"{name}.conv1", after, before, 3)
        shapes |= _affine(f"{name}.norm2", after) | _conv(f"{name}.conv2", after, after, 3)
        return shapes | (_conv(f"{name}.nin_shortcut", after, before, 1) if before != after else {})

    def middle(name: str, size: int) -> Shapes:
        shapes = resnet(f"{name}.block_1", size, size) | resnet(f"{name}.block_2", size, size)
        shapes |= _affine(f"{name}.attn_1.norm", size)
        for part in ("q", "k", "v", "proj_out"):
            shapes |= _conv(f"{name}.attn_1.{part}", size, size, 1)
        return shapes

    encoder = f"{root}.encoder"
    shapes = _conv(f"{encoder}.conv_in", widths[0], 3, 3)
    before = widths[0]
    for level, size in enumerate(widths):
        for index in range(2):
            shapes |= resnet(f"{encoder}.down.{level}.block.{index}", before, size)
            before = size
        if level < 3:
            shapes |= _conv(f"{encoder}.down.{level}.downsample.conv", size, size, 3)
    shapes |= middle(f"{encoder}.mid", before) | _affine(f"{encoder}.norm_out", before)
    shapes |= _conv(f"{encoder}.conv_out", 8, before, 3)
    shapes |= _conv(f"{root}.quant_conv", 8, 8, 1) | _conv(f"{root}.post_quant_conv", 4, 4, 1)
    decoder = f"{root}.decoder"
    shapes |= middle(f"{decoder}.mid", 1) | _conv(f"{decoder}.conv_in", 1, 1, 1)
    for level in range(4):
        for index in range(3):
            shapes |= resnet(f"{decoder}.up.{level}.block.{index}", 1, 1)
        if level:
            shapes |= _conv(f"{decoder}.up.{level}.upsample.conv", 1, 1, 1)
    shapes |= _affine(f"{decoder}.norm_out", 1) | _conv(f"{decoder}.conv_out", 1, 1, 1)
    yield from shapes.items()


def _clip_text(width: int, layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    root = "cond_stage_model.transformer.text_model"
    shapes: Shapes = {
        f"{root}.embeddings.token_embedding.weight": (49408, width),
        f"{root}.embeddings.position_embedding.weight": (77, width),
    }
    for layer in (f"{root}.encoder.layers.{index}" for index in range(layers)):
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{layer}.self_attn.{part}", width, width)
        shapes |= _affine(f"{layer}.layer_norm1", width) | _affine(f"{layer}.layer_norm2", width)
        shapes |= _linear(f"{layer}.mlp.fc1", 4 * width, width)
        shapes |= _linear(f"{layer}.mlp.fc2", width, 4 * width)
    yield from (shapes | _affine(f"{root}.final_layer_norm", width)).items()
