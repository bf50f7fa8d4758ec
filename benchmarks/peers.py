"""What users would run instead: VisBench, CLIP_benchmark's probe, a script of scikit-learn.

The same folder of images, the same backbone and the same number of threads and loader processes;
whole processes take turns, each first with nothing kept and then with what it keeps of its own::

    pip install visbench clip-benchmark          # in an environment of their own where need be
    python -m benchmarks.peers [--peers-python PATH]

The backbone is EfficientNet-Lite0 with its ImageNet weights and the images are Fashion-MNIST as PNG
files in class folders, so many of each class. Images are resized and cropped as timm resolves it.
What each does:

- bob: nearest neighbours and the linear probe (45 strengths, chosen on a held-out tenth, refitted).
- scikit-learn: ``KNeighborsClassifier(20, metric="cosine")`` and ``LogisticRegression`` at its
  default strength; features are kept as an array.
- scikit-learn, 45 C: the same, but as bob's recipes ask for it: neighbours are weighted by their
  similarity, and the strength is chosen among 45 on the held-out tenth and fitted again on all.
- VisBench: its probe ``classification`` (AdamW, 200 epochs at one setting); it has no neighbours.
- CLIP_benchmark: its linear probe with the search for a weight decay on a held-out tenth, on
  normalised features. It asks for CUDA; here ``cuda()`` is made to do nothing, and the share of
  right ones is counted in its place where NumPy has overtaken it.
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
from pathlib import Path
from typing import Any
from unittest.mock import patch
from xml.etree import ElementTree

MODEL = "tf_efficientnet_lite0"
ENTRY = "efficientnet_lite0_in1k"
BATCH = 64
C_VALUES = [10 ** (-6 + 11 * place / 44) for place in range(45)]

Split = tuple[Any, Any]
"""Features ``(n, d)`` and labels ``(n,)``, as NumPy arrays."""


def prepare(folder: Path, train: int, test: int) -> None:
    """Write so many images of each class of Fashion-MNIST, and the weights as timm has them."""
    from safetensors.torch import save_file

    from bob.backbones import build_backbone
    from bob.catalog import load_catalog
    from bob.datasets import load_dataset

    catalog = load_catalog()
    data: Any = load_dataset(catalog.dataset("fashion_mnist"))
    for name, split, most in (("train", data.train, train), ("test", data.test, test)):
        for label in range(10):
            place = folder / name / f"class_{label}"
            place.mkdir(parents=True)
            for row in (split.targets == label).nonzero().flatten().tolist()[:most]:
                split.pil(row).convert("L").save(place / f"{row:05d}.png")
    backbone = build_backbone(catalog.backbone(ENTRY), image_size=None)
    save_file(backbone.module.state_dict(), str(folder / "weights.safetensors"))


def network(folder: Path) -> tuple[Any, Any]:
    """The module and timm's transform for it."""
    import timm
    from safetensors.torch import load_file
    from timm.data import create_transform, resolve_data_config

    module = timm.create_model(MODEL, pretrained=False, num_classes=0).eval()
    module.load_state_dict(load_file(str(folder / "weights.safetensors")))
    return module, create_transform(**resolve_data_config({}, model=module))


def loaders(folder: Path, transform: Any, workers: int) -> dict[str, Any]:
    """A loader for each split."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    return {
        name: DataLoader(
            ImageFolder(str(folder / name), transform), batch_size=BATCH, num_workers=workers
        )
        for name in ("train", "test")
    }


def as_scikit_learn(folder: Path, kept: Path, workers: int) -> dict[str, float]:
    """A plain script."""
    from sklearn.linear_model import LogisticRegression

    train, test = _features(folder, kept, workers)
    return {
        "knn": _neighbours(train, test),
        "linear_probe": LogisticRegression(max_iter=1000).fit(*train).score(*test),
    }


def as_scikit_learn_search(folder: Path, kept: Path, workers: int) -> dict[str, float]:
    """A script that chooses among as many strengths as bob does."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split

    train, test = _features(folder, kept, workers)
    known, unseen, known_labels, unseen_labels = train_test_split(
        *train, test_size=0.1, stratify=train[1], random_state=0
    )
    probe = LogisticRegression(max_iter=1000, warm_start=True)
    right = {
        c: probe.set_params(C=c).fit(known, known_labels).score(unseen, unseen_labels)
        for c in C_VALUES
    }
    chosen = max(right, key=lambda c: right[c])
    return {
        "knn": _neighbours(train, test, _as_the_recipe),
        "linear_probe": LogisticRegression(C=chosen, max_iter=1000).fit(*train).score(*test),
    }


def _neighbours(train: Split, test: Split, weights: Any = "uniform") -> float:
    from sklearn.neighbors import KNeighborsClassifier

    voters = KNeighborsClassifier(20, metric="cosine", weights=weights)
    return float(voters.fit(*train).score(*test))


def _as_the_recipe(distances: Any) -> Any:
    """Weights of the votes of neighbours."""
    import numpy as np

    return np.exp((1 - distances) / 0.07)


def _features(folder: Path, kept: Path, workers: int) -> tuple[Split, Split]:
    """Features and labels of both splits, from the array that was kept where there is one."""
    import numpy as np
    import torch

    file = kept / "features.npz"
    if not file.exists():
        module, transform = network(folder)
        found: dict[str, Any] = {}
        with torch.inference_mode():
            for name, loader in loaders(folder, transform, workers).items():
                parts = [(module(images).numpy(), labels.numpy()) for images, labels in loader]
                found[name] = np.concatenate([features for features, _ in parts])
                found[f"{name}_labels"] = np.concatenate([labels for _, labels in parts])
        np.savez(file, **found)
    held = np.load(file)
    train, test = ((held[name], held[f"{name}_labels"]) for name in ("train", "test"))
    return train, test


def as_visbench(folder: Path, kept: Path, workers: int) -> dict[str, float]:
    """VisBench's probe; it loads images itself."""
    import torch
    import visbench
    from visbench.backbones.custom import CustomBackbone
    from visbench.cache import FeatureCache
    from visbench.data import ImageFolderDataset

    module, transform = network(folder)

    class Map(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.inner.forward_features(images)
            return found

    result = visbench.run(
        CustomBackbone(Map(), preprocess=transform, name=MODEL, device="cpu"),
        "classification",
        ImageFolderDataset(folder / "test", split="test"),
        train_dataset=ImageFolderDataset(folder / "train"),
        cache=FeatureCache(kept / "cache"),
        device="cpu",
    )
    return {"linear_probe": result.metrics["top1"]}


def as_clip_benchmark(folder: Path, kept: Path, workers: int) -> dict[str, float]:
    """CLIP_benchmark's probe, on the processor."""
    import torch
    from clip_benchmark.metrics import linear_probe
    from torch.utils.data import DataLoader, random_split

    module, transform = network(folder)
    module.encode_image = module.forward
    found = loaders(folder, transform, workers)
    whole = found["train"].dataset
    tenth = len(whole) // 10
    parts = random_split(
        whole, [len(whole) - tenth, tenth], generator=torch.Generator().manual_seed(0)
    )
    train, held_out = (DataLoader(part, batch_size=BATCH, num_workers=workers) for part in parts)

    def stays(self: Any, *args: Any, **options: Any) -> Any:
        return self

    with (
        patch.object(torch.nn.Module, "cuda", stays),
        patch.object(torch.Tensor, "cuda", stays),
        patch.object(torch.Tensor, "to", _to_the_processor(torch.Tensor.to)),
        patch.object(torch.cuda, "device_count", lambda: 0),
        patch.object(linear_probe, "accuracy", _accuracy),
    ):
        metrics = linear_probe.evaluate(
            module, train, found["test"], fewshot_k=-1, batch_size=BATCH, num_workers=0, lr=0.1,
            epochs=10, model_id=MODEL, seed=0, feature_root=str(kept / "features"),
            device="cuda", val_dataloader=held_out, amp=False,
        )  # fmt: skip
    return {"linear_probe": float(metrics["lp_acc1"])}


def _accuracy(logits: Any, targets: Any, topk: tuple[int, ...]) -> list[float]:
    """Shares of right ones among the first; the package's own fails under NumPy 2.4."""
    first = logits.topk(max(topk)).indices == targets[:, None]
    return [float(first[:, :k].any(1).float().mean()) for k in topk]


def _to_the_processor(to: Any) -> Any:
    def moved(self: Any, *args: Any, **options: Any) -> Any:
        return self if args[:1] == ("cuda",) else to(self, *args, **options)

    return moved


PEERS = {
    "scikit-learn": as_scikit_learn,
    "scikit-learn, 45 C": as_scikit_learn_search,
    "VisBench": as_visbench,
    "CLIP_benchmark": as_clip_benchmark,
}


def run_bob(folder: Path, kept: Path, workers: int) -> tuple[float, dict[str, float]]:
    """Seconds of a pytest session, and its scores."""
    start = time.perf_counter()
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "--pyargs", "suites", "-q", "-p", "no:cacheprovider",
            f"--dataset=folder:{folder}", f"--backbone={ENTRY}", "--progress=off",
            "-k", "knn or (linear_probe and not paper)", f"--workers={workers}",
            f"--features={kept}/features", f"--tracking-uri=sqlite:///{kept}/mlflow.db",
            f"--junitxml={kept}/junit.xml", "--accelerator=cpu",
        ],
        cwd=kept, capture_output=True, text=True, check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(kept)},
    )  # fmt: skip
    seconds = time.perf_counter() - start
    scores = {}
    for case in ElementTree.parse(kept / "junit.xml").iter("testcase"):
        for item in case.iter("property"):
            if item.get("name") == "bob.top1":
                task = "knn" if "knn" in str(case.get("name") + case.get("classname", "")) else ""
                scores[task or "linear_probe"] = float(str(item.get("value")))
    if len(scores) != 2:
        raise SystemExit(done.stdout[-3000:] + done.stderr[-3000:])
    return seconds, scores


def run_peer(
    name: str, python: str, folder: Path, kept: Path, workers: int
) -> tuple[float, dict[str, float]]:
    """Seconds of a peer's process, and its scores."""
    start = time.perf_counter()
    done = subprocess.run(
        [python, __file__, "--as", name, str(folder), str(kept), str(workers)],
        capture_output=True, text=True, check=False, cwd=kept,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stdout[-3000:] + done.stderr[-3000:])
    return time.perf_counter() - start, json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    """Command line; status 1 where a peer is faster."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--train", type=int, default=200, help="images of each class (200)")
    command.add_argument("--test", type=int, default=100, help="images of each class (100)")
    command.add_argument("--turns", type=int, default=3)
    command.add_argument("--workers", type=int, default=0)
    command.add_argument("--peers-python", default=sys.executable, help="has visbench and the like")
    command.add_argument("--only", choices=PEERS, action="append", help="only this peer")
    command.add_argument("--as", dest="peer", nargs=4, help=argparse.SUPPRESS)
    args = command.parse_args()
    if args.peer:
        name, folder, kept, workers = args.peer
        print(json.dumps(PEERS[name](Path(folder), Path(kept), int(workers))))
        return 0
    names = ["bob", *(args.only or PEERS)]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    scores: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "images")
        prepare(folder, args.train, args.test)
        for turn in range(args.turns):
            for name in names if turn % 2 else names[::-1]:
                with tempfile.TemporaryDirectory() as kept:
                    both = []
                    for _ in ("cold", "warm"):
                        seconds, scores[name] = (
                            run_bob(folder, Path(kept), args.workers)
                            if name == "bob"
                            else run_peer(name, args.peers_python, folder, Path(kept), args.workers)
                        )
                        both.append(seconds)
                    times[name].append((both[0], both[1]))
                    print(f"  turn {turn + 1}: {name} {both[0]:.1f} s, warm {both[1]:.1f} s")
    print(f"\n{10 * args.train} train and {10 * args.test} test images; medians of {args.turns}")
    print(f"{'':<20}{'cold':>9}{'warm':>9}{'knn':>9}{'probe':>9}{'÷ bob':>9}{'warm':>9}")
    slower = False
    for name in names:
        cold, warm = (statistics.median(column) for column in zip(*times[name], strict=True))
        ratios = [
            statistics.median(
                own[which] / bobs[which]
                for own, bobs in zip(times[name], times["bob"], strict=True)
            )
            for which in (0, 1)
        ]
        slower |= min(ratios) < 1
        cells = [scores[name].get(task) for task in ("knn", "linear_probe")]
        shown = "".join(f"{cell:>9.4f}" if cell is not None else f"{'-':>9}" for cell in cells)
        print(f"{name:<20}{cold:>7.1f} s{warm:>7.1f} s{shown}{ratios[0]:>9.2f}{ratios[1]:>9.2f}")
    return int(slower)


if __name__ == "__main__":
    sys.exit(main())
