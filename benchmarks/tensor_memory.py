"""Forward passes and training steps on a CPU, with huge pages and freed memory kept, and without.

Whole processes take turns; each prints the images per second of processor time, the share that
the system took of it, and the most memory it held::

    python -m benchmarks.tensor_memory --turns 3
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time

# The own values of glibc and torch: what the environment says stands.
OFF = {"MALLOC_MMAP_MAX_": "65536", "THP_MEM_ALLOC_ENABLE": "0"}
STEPS = 10


def measure(model: str, batch: int, train: bool) -> None:
    """Print images a second, the system's share in percent and the most memory in MiB."""
    import timm
    import torch

    import bob.run  # noqa: F401 - importing it settles how memory is handed out

    torch.set_num_threads(1)
    module = timm.create_model(model, pretrained=False, num_classes=0).train(train)
    images = torch.rand(batch, 3, 224, 224)

    def step() -> None:
        with torch.set_grad_enabled(train):
            features = module(images)
            if train:
                features.square().mean().backward()

    step()
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
    for _ in range(STEPS):
        step()
    after, seconds = resource.getrusage(resource.RUSAGE_SELF), time.process_time() - start
    print(
        STEPS * batch / seconds,
        100 * (after.ru_stime - before.ru_stime) / seconds,
        after.ru_maxrss / 1024,
    )


def child(arguments: list[str], kept: bool) -> list[float]:
    """What one process printed."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if "MALLOC" not in name and "THP" not in name
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.tensor_memory", "--child", *arguments],
        env=environment if kept else {**environment, **OFF},
        capture_output=True,
        text=True,
        check=True,
    )
    return [float(value) for value in done.stdout.split()]


def main() -> int:
    """Command line."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--turns", type=int, default=3)
    command.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = command.parse_args()
    if args.child:
        measure(args.child[0], int(args.child[1]), args.child[2] == "train")
        return 0
    for work in (
        ["tf_efficientnet_lite0", "20", "forward"],
        ["tf_efficientnet_lite0", "20", "train"],
        ["resnet18", "20", "forward"],
        ["vit_tiny_patch16_224", "20", "forward"],
    ):
        turns = [(child(work, True), child(work, False)) for _ in range(args.turns)]
        kept, own = (
            [statistics.median(column) for column in zip(*side, strict=True)]
            for side in zip(*turns, strict=True)
        )
        ratio = statistics.median(kept[0] / own[0] for kept, own in turns)
        print(
            f"{work[0]}, batch {work[1]}, {work[2]}: {ratio:.2f} times as many images a second of "
            f"processor time ({kept[0]:.1f} against {own[0]:.1f}; the system took {kept[1]:.0f} "
            f"and {own[1]:.0f} %; {kept[2]:.0f} and {own[2]:.0f} MiB)",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
