"""Measure the CPU at hand: ``python -m bob.cost.measure`` prints a calibration as JSON.

Everything is timed in the calling thread's own seconds, which waits for other processes do not
count into: on a machine that is left alone they are the clock's, and on a shared one the estimate
is that of a machine left alone.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from importlib.metadata import version
from statistics import median
from typing import Any

from bob.case import Case, Context
from bob.catalog import BackboneEntry, load_catalog
from bob.cost.calibration import Calibration, Heads, Network
from bob.fingerprint import cpu_model
from bob.plan import Plan, Selection
from bob.protocols.detection import DetectionRecipe
from bob.protocols.finetune import FinetuneRecipe
from bob.protocols.linear_probe import ProbeRecipe
from bob.protocols.work import Sizes

_CLASSES = 10
_TIMES = 3
_SMALL, _LARGE = (8, 32), (2, 4)
"""Images of the two updates that tell what an update takes and what an image, of a micro backbone
and of a ResNet-18."""
_FORWARD = {32: 64, 224: 4}
_VIEW_SIDE, _VIEWS = 32, 64
_SCENE = 64
_SCENES = 8
_FEW: dict[str, Any] = {"roi_batch": 8, "rpn_proposals": (20, 20), "max_detections": 5}
_MANY: dict[str, Any] = {"roi_batch": 64, "rpn_proposals": (120, 80), "max_detections": 40}


def seconds(call: Callable[[], object], times: int = _TIMES) -> float:
    """Median of the calling thread's seconds, after one call that is not counted."""
    call()
    return median(_once(call) for _ in range(times))


def _once(call: Callable[[], object]) -> float:
    start = time.thread_time()
    call()
    return time.thread_time() - start


def main() -> None:
    """Measure and print."""
    case, fit, start = _case()
    import torch

    torch.manual_seed(0)
    networks = [
        _network(name, family, side)
        for name, family, side in (
            ("resnet_micro", "resnet", 32),
            ("swin_micro", "swin", 32),
            ("convnext_micro", "convnext", 32),
            ("vit_micro", "vit", 32),
            ("resnet18", "resnet", 224),
        )
    ]
    trained, tested = _heads(networks[0])
    found = Calibration(
        cpu=cpu_model(),
        torch=version("torch"),
        threads=torch.get_num_threads(),
        date=date.today().isoformat(),
        networks=tuple(networks),
        trained_heads=trained,
        tested_heads=tested,
        view=_view(),
        view_side=_VIEW_SIDE,
        fit=fit,
        case=case,
        start=start,
    )
    print(found.model_dump_json())


def _case() -> tuple[float, float, float]:
    """Seconds of the smallest case there is, of a linear head, and what a first case imports."""
    begun = time.thread_time()
    _run("knn")
    first = time.thread_time() - begun
    case = _once(lambda: _run("knn"))
    probe = seconds(lambda: _run("linear_probe"), 1)
    recipe = _small("linear_probe").recipe
    assert isinstance(recipe, ProbeRecipe)
    return case, max(0.0, probe - case) / (len(recipe.c) + 1), max(0.0, first - case)


def _small(task: str) -> Case:
    """A smoke case of mean colours, which cost nothing to extract."""
    like = Plan(load_catalog(), Selection()).cases(task)[0]
    pixels = BackboneEntry(
        key="pixels", family="pixels", source="bob.backbones.micro:pooled_pixels"
    )
    return replace(like, backbone=pixels)


def _run(task: str) -> None:
    from bob.run import run_case

    with tempfile.TemporaryDirectory() as folder:
        result = run_case(_small(task), Context(accelerator="cpu", features=folder))
    if result.failure is not None:
        raise RuntimeError(result.failure.message)


def _backbone(name: str, side: int) -> Any:
    import timm

    from bob.backbones import Backbone, micro

    module = (
        getattr(micro, name)()
        if hasattr(micro, name)
        else timm.create_model(name, pretrained=False, num_classes=0)
    )
    return Backbone(
        key=name, module=module, num_features=module.num_features, image_size=side,
        mean=(0.5,) * 3, std=(0.25,) * 3, weights_digest="", fingerprint=(),
    )  # fmt: skip


def _network(name: str, family: str, side: int) -> Network:
    """Forward passes and whole updates of one network, by the loop that trains it."""
    import torch

    backbone = _backbone(name, side)
    module = backbone.module
    parameters = sum(parameter.numel() for parameter in module.parameters()) / 1e6
    images = torch.randn(_FORWARD[side], 3, side, side)

    def forward() -> None:
        with torch.inference_mode():
            module(images)

    module.eval()
    once = seconds(forward) / len(images)
    few, many = _SMALL if side == 32 else _LARGE
    small, large = (_update(backbone, side, batch) for batch in (few, many))
    each = max((large - small) / (many - few), large / many / 2)
    return Network(
        name=name,
        family=family,
        parameters_m=parameters,
        side=side,
        forward=once,
        trained=each,
        update=max(0.0, large - each * many),
    )


def _update(backbone: Any, side: int, batch: int) -> float:
    """Seconds of one update."""
    import torch

    from bob.distributed.strategy import make_fabric
    from bob.training.classifier import Classifier
    from bob.training.loop import Loop

    recipe = FinetuneRecipe(
        epochs=_TIMES + 1, batch_size=batch, drop_path=0.0, mixup=0.0, cutmix=0.0, clip_grad=1.0
    )
    targets = torch.arange(batch) % _CLASSES
    loop = Loop(
        Classifier(backbone, _CLASSES), recipe, make_fabric("cpu", "32-true"),
        [(torch.randn(batch, 3, side, side), targets)] * (2 if side == 32 else 1),
        classes=_CLASSES, emit=lambda progress: None,
    )  # fmt: skip
    epochs = iter(range(recipe.epochs))
    times = _TIMES if side == 32 else 1
    return seconds(lambda: loop.epoch(next(epochs)), times) / len(loop.batches)


def _heads(network: Network) -> tuple[Heads, Heads]:
    """What a detector's heads take in training and in testing: two detectors, the backbone off."""
    from bob.protocols.detection import work

    sizes = Sizes(train=_SCENES, test=_SCENES, side=_SCENE, kind="detection")
    recipes = [_scenes_recipe(few_or_many) for few_or_many in (_FEW, _MANY)]
    measured = [_detector(network, recipe) for recipe in recipes]
    costs = [work(recipe, sizes) for recipe in recipes]
    pixels = (_SCENE / network.side) ** 2
    return (
        _line(
            [cost.heads_macs for cost in costs],
            [train - network.trained * pixels for train, _ in measured],
        ),
        _line(
            [cost.test_heads_macs for cost in costs],
            [test - network.forward * pixels for _, test in measured],
        ),
    )


def _line(macs: Sequence[float], taken: Sequence[float]) -> Heads:
    """The line through two measurements; noise may make neither part of it negative."""
    slope = min(max(0.0, (taken[1] - taken[0]) / (macs[1] - macs[0])), max(taken[0], 0) / macs[0])
    return Heads(image=max(0.0, taken[0] - slope * macs[0]), mac=slope)


def _scenes_recipe(regions: dict[str, Any]) -> DetectionRecipe:
    """The smoke scale's detector, with other numbers of regions."""
    case = Plan(load_catalog(), Selection(engine="torchvision")).cases("detection")[0]
    return DetectionRecipe.model_validate({**case.recipe.model_dump(), **regions})


def _detector(network: Network, recipe: DetectionRecipe) -> tuple[float, float]:
    """Seconds an image in training and in testing."""
    import torch

    from bob.datasets.instances import Target
    from bob.detection.engine import build_detector
    from bob.detection.loop import parameter_groups

    detector: Any = build_detector(_backbone(network.name, network.side), recipe, _CLASSES)
    optimiser = torch.optim.AdamW(parameter_groups(detector, recipe), lr=1e-4)
    images = [torch.rand(3, _SCENE, _SCENE) for _ in range(_SCENES)]
    corners = torch.tensor([[4.0, 6.0, 30.0, 34.0], [28.0, 30.0, 58.0, 60.0]])
    masks = torch.zeros(2, _SCENE, _SCENE, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, corners.int().tolist(), strict=True):
        mask[top:bottom, left:right] = True
    targets = [Target(corners, torch.tensor([1, 2]), masks)] * _SCENES

    def update() -> None:
        torch.stack(list(detector(images, targets).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 5.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    def detect() -> None:
        with torch.inference_mode():
            detector(images, [(_SCENE, _SCENE)] * _SCENES)

    detector.train()
    trained = seconds(update) / _SCENES
    detector.eval()
    return trained, seconds(detect) / _SCENES


def _view() -> float:
    """Seconds to augment one image."""
    import torch

    from bob.features.extract import View, augmented

    images = torch.randint(0, 256, (_VIEWS, 3, _VIEW_SIDE, _VIEW_SIDE), dtype=torch.uint8)
    view = View(seed=0, epoch=0, crop_scale=0.6, hflip=0.5)
    return seconds(lambda: augmented(images, view, 0, _VIEW_SIDE)) / _VIEWS


if __name__ == "__main__":
    main()
