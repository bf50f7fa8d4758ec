"""Pretrain the micro backbones on rendered letters and symbols.

Writes ``bob/backbones/weights/<name>_glyphs.safetensors`` (half precision, no classification head)
and prints the SHA-256 that the catalog entry must name::

    python scripts/pretrain_glyphs.py swin_micro vit_micro convnext_micro resnet_micro
"""

from __future__ import annotations

import argparse
import hashlib
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from bob.backbones import micro
from bob.datasets.glyphs import CHARACTERS, render
from bob.datasets.pixels import counts_to_rgb

WEIGHTS = Path(__file__).resolve().parents[1] / "bob" / "backbones" / "weights"
NAMES = ("swin_micro", "vit_micro", "convnext_micro", "resnet_micro")
VARIANTS = 28
BATCH = 128
WARMUP = 100
PEAK_LR = 1e-3
WEIGHT_DECAY = 0.05


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


def pretrain(name: str, *, steps: int, seed: int) -> tuple[nn.Module, float]:
    """Train one micro backbone to tell the characters apart; returns it and held-out accuracy."""
    torch.manual_seed(seed)
    counts, labels = render(CHARACTERS, variants=VARIANTS, seed=seed)
    held_counts, held_labels = render(CHARACTERS, variants=1, seed=seed + 1)
    targets = torch.from_numpy(labels)
    backbone: nn.Module = getattr(micro, name)()
    model = nn.Sequential(backbone, nn.Linear(backbone.num_features, len(CHARACTERS)))
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=PEAK_LR, weight_decay=WEIGHT_DECAY, fused=True
    )
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimiser,
        [
            torch.optim.lr_scheduler.LinearLR(optimiser, 0.01, total_iters=WARMUP),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps - WARMUP, eta_min=1e-6),
        ],
        milestones=[WARMUP],
    )
    model.train()
    for step in range(steps):
        picks = torch.randint(0, len(counts), (BATCH,))
        images = jitter(counts_to_rgb(counts[picks.numpy()], micro.IMAGE_SIZE)).sub(0.5).div(0.5)
        loss = functional.cross_entropy(model(images), targets[picks])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 99:
            print(f"{name} step {step + 1}/{steps} loss {loss.item():.3f}", flush=True)
    model.eval()
    with torch.inference_mode():
        images = counts_to_rgb(held_counts, micro.IMAGE_SIZE).sub(0.5).div(0.5)
        hits = sum(
            int((model(part).argmax(1) == truth).sum())
            for part, truth in zip(
                images.split(256), torch.from_numpy(held_labels).split(256), strict=True
            )
        )
    return backbone, hits / len(held_labels)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES, choices=NAMES, metavar="NAME")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    for name in args.names:
        start = time.perf_counter()
        backbone, accuracy = pretrain(name, steps=args.steps, seed=args.seed)
        state = {
            key: value.half().contiguous() if value.is_floating_point() else value
            for key, value in backbone.state_dict().items()
        }
        path = args.output / f"{name}_glyphs.safetensors"
        save_file(state, path, metadata={"steps": str(args.steps), "seed": str(args.seed)})
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(
            f"{path.name}: {accuracy:.3f} on held-out drawings of {len(CHARACTERS)} characters, "
            f"{path.stat().st_size / 1e6:.2f} MB, {time.perf_counter() - start:.0f} s\n"
            f"  sha256: {digest}",
            flush=True,
        )


if __name__ == "__main__":
    main()
