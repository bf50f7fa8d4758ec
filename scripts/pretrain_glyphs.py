"""Pretrain the micro backbones on rendered letters and symbols.

First one letter in the middle is to be named; then also, for every cell of the feature maps over
letters in clutter, which letter it is on, where that one's box ends and which pixels are ink.
Writes ``bob/backbones/weights/<name>_glyphs.safetensors`` (half precision, no heads) and prints the
SHA-256 that the catalog entry must name::

    python scripts/pretrain_glyphs.py swin_micro vit_micro convnext_micro resnet_micro
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from letter_scenes import LetterScenes, draw
from letter_trunks import Trunk, trunk
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from bob.backbones import micro
from bob.datasets.glyphs import CHARACTERS, render
from bob.datasets.pixels import counts_to_rgb
from bob.hashing import digest_of_file

WEIGHTS = Path(__file__).resolve().parents[1] / "bob" / "backbones" / "weights"
# Updates on single letters, then on both. A ViT that has learnt to name letters in the middle keeps
# less of where things are, so it learns both from the start.
STEPS = {
    "swin_micro": (1500, 2000),
    "vit_micro": (0, 3000),
    "convnext_micro": (1500, 2000),
    "resnet_micro": (1500, 2000),
}
VARIANTS = 28
BATCH = 128
WARMUP = 100
PEAK_LR = 1e-3
WEIGHT_DECAY = 0.05
SCENES = 6000
SCENE_SEED = 5
BOTH_BATCH = 48
BOTH_LR = 7e-4
SUBCELLS = 4
BOX_BETA = 0.1

State = dict[str, torch.Tensor]


def jitter(images: torch.Tensor) -> torch.Tensor:
    """Squeeze, slant, shift and fade each ``(3, s, s)`` image at random, as handwriting does."""
    count = len(images)

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.empty(count).uniform_(low, high)

    rows = [
        torch.stack([1 / uniform(0.55, 1.1), uniform(-0.25, 0.25), uniform(-0.12, 0.12)], dim=1),
        torch.stack([uniform(-0.15, 0.15), 1 / uniform(0.8, 1.1), uniform(-0.12, 0.12)], dim=1),
    ]
    grid = functional.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, align_corners=False)
    faded = moved ** uniform(0.6, 1.6).view(-1, 1, 1, 1)
    return faded.clamp_(0, 1)


def optimiser(modules: list[nn.Module], *, lr: float, steps: int) -> tuple[Any, Any]:
    """AdamW with warm-up and a cosine to almost nothing."""
    parameters = [parameter for module in modules for parameter in module.parameters()]
    adamw = torch.optim.AdamW(parameters, lr=lr, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        adamw,
        [
            torch.optim.lr_scheduler.LinearLR(adamw, 0.01, total_iters=WARMUP),
            torch.optim.lr_scheduler.CosineAnnealingLR(adamw, steps - WARMUP, eta_min=1e-6),
        ],
        milestones=[WARMUP],
    )
    return adamw, schedule


class Letters:
    """Drawings of the characters, and one further drawing of each in each face to test on."""

    def __init__(self, seed: int) -> None:
        self.counts, self.labels = render(CHARACTERS, variants=VARIANTS, seed=seed)
        self.held, self.held_labels = render(CHARACTERS, variants=1, seed=seed + 1)
        self._targets = torch.from_numpy(self.labels)

    def batch(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Jittered letters ``(size, 3, 32, 32)`` and their classes."""
        picks = torch.randint(0, len(self.counts), (size,))
        images = jitter(counts_to_rgb(self.counts[picks.numpy()], micro.IMAGE_SIZE))
        return normalised(images), self._targets[picks]

    def accuracy(self, model: Any) -> float:
        """Share of the further drawings that are named."""
        images = normalised(counts_to_rgb(self.held, micro.IMAGE_SIZE))
        truth = torch.from_numpy(self.held_labels)
        with torch.inference_mode():
            named = torch.cat([model(part).argmax(1) for part in images.split(256)])
        return float((named == truth).double().mean())


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Values 0 to 1 as -1 to 1."""
    return images.sub(0.5).div(0.5)


def pretrain(name: str, letters: Letters, *, steps: int, seed: int) -> tuple[State, float]:
    """Train one micro backbone to tell the characters apart; returns it and held-out accuracy."""
    torch.manual_seed(seed)
    backbone: nn.Module = getattr(micro, name)()
    model = nn.Sequential(backbone, nn.Linear(backbone.num_features, len(CHARACTERS)))
    adamw, schedule = optimiser([model], lr=PEAK_LR, steps=steps)
    model.train()
    for step in range(steps):
        images, targets = letters.batch(BATCH)
        loss = functional.cross_entropy(model(images), targets)
        adamw.zero_grad(set_to_none=True)
        loss.backward()
        adamw.step()
        schedule.step()
        if step % 250 == 249:
            print(f"{name} letters {step + 1}/{steps} loss {loss.item():.3f}", flush=True)
    model.eval()
    return halved(backbone.state_dict()), letters.accuracy(model)


def pretrain_on_scenes(
    name: str, start: State | None, letters: Letters, scenes: LetterScenes, *, steps: int, seed: int
) -> tuple[State, float]:
    """Letters in clutter beside the single ones; returns the backbone and held-out accuracy."""
    torch.manual_seed(seed)
    backbone = trunk(name)
    heads = nn.ModuleList(
        nn.Conv2d(width, len(CHARACTERS) + 1 + 4 + SUBCELLS**2, 1) for width in backbone.channels
    )
    naming = nn.Linear(backbone.net.num_features, len(CHARACTERS))
    if start is not None:
        backbone.load_state_dict(start)
    adamw, schedule = optimiser([backbone.net, heads, naming], lr=BOTH_LR, steps=steps)
    backbone.net.train()
    for step in range(steps):
        if step == steps * 3 // 4:
            backbone.settle()
        images, targets = letters.batch(BOTH_BATCH)
        named = functional.cross_entropy(naming(backbone.pooled(images)), targets)
        losses = scene_losses(backbone, heads, scenes)
        loss = named + sum(losses.values())
        adamw.zero_grad(set_to_none=True)
        loss.backward()
        adamw.step()
        schedule.step()
        if step % 250 == 249:
            parts = {"named": named, **losses}
            told = ", ".join(f"{key} {value.item():.3f}" for key, value in parts.items())
            print(f"{name} scenes {step + 1}/{steps} {told}", flush=True)
    backbone.net.eval()
    accuracy = letters.accuracy(lambda part: naming(backbone.pooled(part)))
    return halved(backbone.state_dict()), accuracy


def scene_losses(
    backbone: Trunk, heads: nn.ModuleList, scenes: LetterScenes
) -> dict[str, torch.Tensor]:
    """Losses of one batch of scenes, means over the maps: letter, box and ink of every cell."""
    picks = torch.randint(0, len(scenes.images), (BOTH_BATCH,))
    grey = scenes.images[picks].float()
    inverted = torch.rand(BOTH_BATCH) < 0.5
    grey = torch.where(inverted.view(-1, 1, 1), 255 - grey, grey)
    images = normalised(grey / 255)[:, None].expand(-1, 3, -1, -1)
    labels, ink, edges = scenes.labels[picks].long(), scenes.ink[picks], scenes.edges[picks].float()
    letter = box = inked = torch.zeros(())
    classes = len(CHARACTERS)
    for feature_map, head, stride in zip(
        backbone.maps(images), heads, backbone.strides, strict=True
    ):
        out = head(feature_map)
        middle = np.s_[..., stride // 2 :: stride, stride // 2 :: stride]
        wanted = labels[middle]
        on = wanted < classes
        letter = letter + functional.cross_entropy(out[:, : classes + 1], wanted)
        sides = out[:, classes + 1 : classes + 5].permute(0, 2, 3, 1)[on]
        box = box + functional.smooth_l1_loss(
            sides, edges[middle].permute(0, 2, 3, 1)[on], beta=BOX_BETA
        )
        part = stride // SUBCELLS
        fine = ink[:, None, part // 2 :: part, part // 2 :: part].float()
        inked = inked + functional.binary_cross_entropy_with_logits(
            out[:, classes + 5 :], functional.pixel_unshuffle(fine, SUBCELLS)
        )
    maps = len(heads)
    return {"letter": letter / maps, "box": box / maps, "ink": inked / maps}


def halved(state: State) -> State:
    """Floating-point weights in half precision."""
    return {
        key: value.half().contiguous() if value.is_floating_point() else value
        for key, value in state.items()
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(STEPS), choices=STEPS, metavar="NAME")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    letters = Letters(args.seed)
    scenes = draw(
        SCENES,
        letters.counts,
        letters.labels,
        classes=len(CHARACTERS),
        rng=np.random.default_rng(SCENE_SEED + args.seed),
    )
    for name in args.names:
        began = time.perf_counter()
        letter_steps, scene_steps = STEPS[name]
        state = None
        if letter_steps:
            state, accuracy = pretrain(name, letters, steps=letter_steps, seed=args.seed)
            print(f"{name}: {accuracy:.3f} on held-out drawings before scenes", flush=True)
        state, accuracy = pretrain_on_scenes(
            name, state, letters, scenes, steps=scene_steps, seed=args.seed
        )
        path = args.output / f"{name}_glyphs.safetensors"
        about = {
            "steps": str(letter_steps),
            "scene_steps": str(scene_steps),
            "seed": str(args.seed),
        }
        save_file(state, path, metadata=about)
        digest = digest_of_file(path)
        print(
            f"{path.name}: {accuracy:.3f} on held-out drawings of {len(CHARACTERS)} characters, "
            f"{path.stat().st_size / 1e6:.2f} MB, {time.perf_counter() - began:.0f} s\n"
            f"  sha256: {digest}",
            flush=True,
        )


if __name__ == "__main__":
    main()
