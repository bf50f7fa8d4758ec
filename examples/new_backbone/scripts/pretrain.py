"""Pretrain PebbleNet on rendered letters and symbols; minutes on one CPU core.

Writes ``pebblenet/pebblenet.safetensors`` (half precision, no classification head) and prints the
SHA-256 that ``bob.yaml`` must name::

    python scripts/pretrain.py
"""

from __future__ import annotations

import argparse
import hashlib
import math
from pathlib import Path

import torch
from pebblenet import PebbleNet, pebblenet
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from bob.datasets.glyphs import CHARACTERS, render
from bob.datasets.pixels import counts_to_rgb

FILE = Path(__file__).resolve().parents[1] / "pebblenet" / "pebblenet.safetensors"
SIZE = 32
BATCH = 128
PEAK_LR = 2e-3
WARMUP = 60


def distort(images: torch.Tensor) -> torch.Tensor:
    """Slant, squeeze and shift each image ``(n, 3, size, size)`` at random."""
    count = len(images)

    def between(low: float, high: float) -> torch.Tensor:
        return torch.empty(count).uniform_(low, high)

    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = between(0.9, 1.7), between(0.9, 1.25)
    theta[:, 0, 1], theta[:, 1, 0] = between(-0.3, 0.3), between(-0.15, 0.15)
    theta[:, :, 2] = torch.stack([between(-0.12, 0.12), between(-0.12, 0.12)], dim=1)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def normalised(images: torch.Tensor) -> torch.Tensor:
    """RGB in 0..1 to -1..1: mean and deviation 0.5, as ``bob.yaml`` says."""
    return images * 2 - 1


def pretrain(steps: int, seed: int) -> tuple[PebbleNet, float]:
    """A trained backbone, and the share of new drawings whose character it names."""
    torch.manual_seed(seed)
    drawings, characters = render(CHARACTERS, variants=24, seed=seed)
    targets = torch.from_numpy(characters)
    backbone = pebblenet()
    head = nn.Linear(backbone.num_features, len(CHARACTERS))
    model = nn.Sequential(backbone, head)
    optimiser = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min((step + 1) / WARMUP, 0.5 + 0.5 * math.cos(math.pi * step / steps)),
    )
    model.train()
    for step in range(steps):
        picked = torch.randint(len(targets), (BATCH,))
        images = distort(counts_to_rgb(drawings[picked.numpy()], SIZE))
        loss = functional.cross_entropy(
            model(normalised(images)), targets[picked], label_smoothing=0.1
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1}/{steps}, loss {loss.item():.3f}", flush=True)
    held_out, characters = render(CHARACTERS, variants=1, seed=seed + 1)
    model.eval()
    with torch.inference_mode():
        guesses = torch.cat(
            [model(normalised(part)).argmax(1) for part in counts_to_rgb(held_out, SIZE).split(256)]
        )
    return backbone, (guesses == torch.from_numpy(characters)).float().mean().item()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=FILE)
    args = parser.parse_args()
    backbone, accuracy = pretrain(args.steps, args.seed)
    state = {name: value.half().contiguous() for name, value in backbone.state_dict().items()}
    save_file(state, args.output)
    print(f"{args.output}: names {accuracy:.3f} of new drawings of {len(CHARACTERS)} characters")
    print(f"sha256: {hashlib.sha256(args.output.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
