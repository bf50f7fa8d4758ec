"""A folder of many image files: planning, extraction, memory, draws and the second run.

Fashion-MNIST is written as PNG files in class folders, and parts of it beside that as hard links::

    python -m benchmarks.many_files --folder DIR     # the files stay in DIR and are used again

*Planning* is ``bob plan``, a whole process with and without what it remembers of the files.
*Extraction* takes turns with a loop as one writes it by hand, over the same files, network, threads
and loader processes; the ratio is taken pair by pair. *Sessions* are whole pytest processes of the
nearest neighbours, the second with its features there already, and the most memory that each
takes at once.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from bob.backbones import Backbone, build_backbone
from bob.catalog import load_catalog
from bob.datasets import ImageSplit, load_dataset
from bob.datasets.folder import load as load_folder
from bob.datasets.images import Files
from bob.datasets.subsets import low_shot_draws
from bob.distributed.strategy import make_fabric
from bob.features.extract import BATCH, extract

LEAST_RATIO = 0.97
PARTS = (7_000, 35_000, 70_000)


def write_files(folder: Path) -> None:
    """Write every image as a PNG file, unless that was done, and parts of them as links."""
    whole = folder / str(PARTS[-1])
    if not (folder / "written").exists():
        data = load_dataset(load_catalog().dataset("fashion_mnist"))
        for name, split in (("train", data.train), ("test", data.test)):
            for row, target in enumerate(split.targets.tolist()):
                place = whole / name / f"class_{target}"
                place.mkdir(parents=True, exist_ok=True)
                split.pil(row).convert("L").save(place / f"{row:05d}.png")
        (folder / "written").touch()
    for count in PARTS[:-1]:
        link_part(whole, folder / str(count), count / PARTS[-1])


def link_part(whole: Path, part: Path, share: float) -> None:
    """Link the first files of each class of each split."""
    for place in whole.glob("*/*"):
        target = part / place.relative_to(whole)
        if target.exists():
            continue
        target.mkdir(parents=True)
        files = sorted(place.iterdir())
        for file in files[: round(len(files) * share)]:
            os.link(file, target / file.name)


def process(words: Sequence[str], cache: str) -> tuple[float, float, str]:
    """Seconds and most resident MiB of a Python process, and what it printed."""
    watched = (
        "import json, resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], capture_output=True, text=True)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss\n"
        "print(json.dumps([used, done.returncode, done.stdout + done.stderr]))"
    )
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", watched, sys.executable, *words],
        env={**os.environ, "XDG_CACHE_HOME": cache}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    most, status, text = json.loads(done.stdout)
    if status:
        raise SystemExit(f"{words} ended with {status}: {text[-2000:]}")
    return seconds, most / 1024, text


def planning(folder: Path, backbone: str, cache: str) -> None:
    """Print what ``bob plan`` takes for files that it has never seen, and for those it has."""
    words = ["-m", "bob.cli", "plan", f"--dataset=folder:{folder}", f"--backbone={backbone}",
             "--task=knn", "--no-cpu"]  # fmt: skip
    first, *later = (process(words, cache)[0] for _ in range(3))
    empty = process(
        ["-m", "bob.cli", "plan", "--task=knn", f"--backbone={backbone}", "--no-cpu"], cache
    )
    print(
        f"planning: files never seen {first:.1f} s, seen {statistics.median(later):.1f} s; "
        f"without any folder {empty[0]:.1f} s",
        flush=True,
    )


def plain_loop(module: nn.Module, loader: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Features of every image, as one writes it by hand."""
    features = []
    with torch.inference_mode():
        for images, _ in loader:
            features.append(module(images))
    torch.cat(features)


def extraction(folder: Path, backbone: Backbone, args: argparse.Namespace) -> bool:
    """Print images per second of both; whether the ratio is high enough."""
    fabric = make_fabric("cpu", "32-true")
    size = backbone.image_size
    scale = v2.ToDtype(torch.float32, scale=True)
    plain = ImageFolder(
        str(folder / "train"),
        v2.Compose(
            [
                v2.Resize(size, v2.InterpolationMode.BICUBIC), v2.CenterCrop(size),
                v2.PILToTensor(), scale, v2.Normalize(backbone.mean, backbone.std),
            ]
        ),
    )  # fmt: skip
    rows = list(range(0, len(plain), len(plain) // args.images))[: args.images]
    names = [str(Path(plain.samples[row][0]).relative_to(folder)) for row in rows]
    targets = torch.tensor([plain.targets[row] for row in rows])
    split = ImageSplit(source=Files(folder, names), targets=targets)
    loader = DataLoader(Subset(plain, rows), batch_size=BATCH, num_workers=args.workers)

    def ours() -> None:
        for _ in extract(backbone, split, fabric=fabric, what="files", workers=args.workers):
            pass

    works: list[Callable[[], None]] = [ours, lambda: plain_loop(backbone.module.eval(), loader)]
    for work in works:
        work()
    speeds = []
    for turn in range(args.pairs):
        order = (0, 1) if turn % 2 else (1, 0)
        seconds = {}
        for number in order:
            start = time.perf_counter()
            works[number]()
            seconds[number] = time.perf_counter() - start
        speeds.append((len(rows) / seconds[0], len(rows) / seconds[1]))
    ratios = [suite / bare for suite, bare in speeds]
    suite, bare = (statistics.median(column) for column in zip(*speeds, strict=True))
    middle = statistics.median(ratios)
    print(
        f"extraction of {len(rows):,} files, {args.workers} loader processes, "
        f"{torch.get_num_threads()} threads: suite {suite:.0f} images/s, plain loop {bare:.0f}, "
        f"ratio {middle:.3f} (median of {args.pairs}; {min(ratios):.3f} to {max(ratios):.3f}; "
        f"at least {LEAST_RATIO})",
        flush=True,
    )
    return middle >= LEAST_RATIO


def sessions(folder: Path, args: argparse.Namespace, cache: str) -> None:
    """Print seconds and memory of a first and a second session over a folder."""
    with tempfile.TemporaryDirectory() as place:
        words = [
            "-m", "pytest", "--pyargs", "suites", "-m", "knn", f"--dataset=folder:{folder}",
            f"--backbone={args.backbone}", f"--features={place}/features", "--accelerator=cpu",
            f"--tracking-uri=sqlite:///{place}/mlflow.db", "--progress=off", "-q", "-p",
            "no:cacheprovider", f"--workers={args.workers}",
            *([f"--image-size={args.size}"] if args.size else []),
        ]  # fmt: skip
        for when in ("first", "second"):
            seconds, most, text = process(words, cache)
            score = next(word for word in text.split() if word.startswith("0."))
            print(
                f"{folder.name:>6} files, {when} session: {seconds:.1f} s, at most {most:.0f} MiB "
                f"at once, top1 {score}",
                flush=True,
            )


def draws(folder: Path) -> None:
    """Print what a draw of a few images of each class takes."""
    load_folder(path=str(folder))  # reads what this process's cache may not know
    start = time.perf_counter()
    data = load_folder(path=str(folder))
    loaded = time.perf_counter()
    low_shot_draws(
        data.train.targets, data.class_names, shots=(1, 5, 10), fractions=(0.01, 0.1), draws=20
    )
    drawn = time.perf_counter()
    print(f"loading {loaded - start:.1f} s; 100 low-shot draws {drawn - loaded:.2f} s", flush=True)


def main() -> int:
    """Command line; status 1 when extraction is slower than its bound."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--folder", type=Path, required=True, help="where files are written")
    command.add_argument("--backbone", default="swin_micro_glyphs", help="(swin_micro_glyphs)")
    command.add_argument("--size", type=int, default=0, help="of images (the backbone's own)")
    command.add_argument("--images", type=int, default=10_000, help="that are extracted (10,000)")
    command.add_argument("--pairs", type=int, default=5)
    command.add_argument("--workers", type=int, default=2, help="loader processes (2)")
    args = command.parse_args()
    write_files(args.folder)
    whole = args.folder / str(PARTS[-1])
    entry = load_catalog().backbone(args.backbone)
    backbone = build_backbone(entry, image_size=args.size or entry.image_size or 32)
    fast = extraction(whole, backbone, args)
    with tempfile.TemporaryDirectory() as cache:
        planning(whole, args.backbone, cache)
        draws(whole)
        for count in PARTS:
            sessions(args.folder / str(count), args, cache)
    return int(not fast)


if __name__ == "__main__":
    sys.exit(main())
