from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss, top_k_accuracy_score

from bob.backbones import build_backbone
from bob.case import Case, Context, Progress
from bob.catalog import Catalog
from bob.datasets import ClassificationData, Split, load_dataset
from bob.distributed.strategy import make_fabric
from bob.errors import BobError
from bob.metrics.classification import classification_metrics
from bob.protocols.finetune import FinetuneRecipe
from bob.run import run_case
from bob.training.classifier import Classifier
from bob.training.data import TensorBatches, normalised, train_batches
from bob.training.loop import Loop
from bob.training.optimiser import build_optimiser, build_schedule

PLAIN = FinetuneRecipe(
    epochs=1, batch_size=32, image_size=32, warmup_epochs=0, drop_path=0, mixup=0, cutmix=0,
    rand_augment=None, color_jitter=0, crop_scale=1, hflip=0, random_erase=0, label_smoothing=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def data(catalog: Catalog) -> ClassificationData:
    return load_dataset(catalog.dataset("digits"))


def make_loop(catalog: Catalog, data: ClassificationData, recipe: FinetuneRecipe) -> Loop:
    torch.manual_seed(0)
    backbone = build_backbone(catalog.backbone("resnet_micro_glyphs"), image_size=32)
    fabric = make_fabric("cpu", "auto")
    few = Split(data.train.images[:128], data.train.targets[:128])
    return Loop(
        model=Classifier(backbone, 10),
        recipe=recipe,
        fabric=fabric,
        batches=train_batches(few, recipe, backbone, device=fabric.device, workers=0, seed=0),
        classes=10,
        emit=lambda progress: None,
    )


def test_the_digits_are_real_and_pinned(data: ClassificationData, catalog: Catalog) -> None:
    assert len(data.train) == 1200
    assert len(data.test) == 597
    assert data.train.images.shape[1:] == (3, 32, 32)
    assert data.train.images.dtype == torch.uint8
    wrong = catalog.dataset("digits").model_copy(update={"sha256": "0" * 64})
    with pytest.raises(BobError, match="Scores on other data are not comparable"):
        load_dataset(wrong)
    wrong = catalog.dataset("digits").model_copy(update={"test_size": 100})
    with pytest.raises(BobError, match="has 10 classes and 597 test images"):
        load_dataset(wrong)


@pytest.mark.parametrize("family", ["swin", "vit", "convnext", "resnet"])
def test_layer_decay_slows_each_layer_below_the_head(catalog: Catalog, family: str) -> None:
    backbone = build_backbone(catalog.backbone(f"{family}_micro_random"), image_size=32)
    model = Classifier(backbone, 10)
    recipe = PLAIN.model_copy(update={"layer_decay": 0.5, "lr": 1.0, "weight_decay": 0.05})
    optimiser = build_optimiser(model, recipe)
    build_schedule(optimiser, recipe, steps_per_epoch=10)
    rates = {
        id(parameter): group["lr"]
        for group in optimiser.param_groups
        for parameter in group["params"]
    }
    decays = {
        id(parameter): group["weight_decay"]
        for group in optimiser.param_groups
        for parameter in group["params"]
    }
    parameters = list(model.parameters())
    assert set(rates) == {id(parameter) for parameter in parameters}
    assert rates[id(model.head.weight)] == 1.0
    first = next(iter(backbone.module.parameters()))
    assert rates[id(first)] == min(rates.values()) < 0.3
    steps = {round(float(np.log2(1 / rate)), 6) for rate in rates.values()}
    assert all(step == int(step) for step in steps)
    assert all(decays[id(p)] == (0.05 if p.ndim > 1 else 0.0) for p in model.head.parameters())


def test_schedule_warms_up_and_ends_at_the_floor(catalog: Catalog) -> None:
    backbone = build_backbone(catalog.backbone("resnet_micro_random"), image_size=32)
    recipe = PLAIN.model_copy(
        update={"epochs": 10, "warmup_epochs": 2, "lr": 0.1, "warmup_lr": 0.0, "min_lr": 1e-3}
    )
    optimiser = build_optimiser(Classifier(backbone, 10), recipe)
    schedule = build_schedule(optimiser, recipe, steps_per_epoch=10)

    def head_rate() -> float:
        return max(group["lr"] for group in optimiser.param_groups)

    rates = [head_rate()]
    for step in range(1, 101):
        schedule.step_update(step)
        rates.append(head_rate())
    assert rates[0] == 0
    assert rates[10] == pytest.approx(0.05)
    for step in (20, 50, 80):
        cosine = 0.5 * (1 + np.cos(np.pi * step / 100))
        assert rates[step] == pytest.approx(1e-3 + (0.1 - 1e-3) * cosine)
    assert rates[100] == pytest.approx(1e-3)


def test_batches_cover_the_split_in_an_order_of_the_seed() -> None:
    images, targets = torch.arange(10.0).view(10, 1, 1, 1), torch.arange(10)

    def orders(seed: int) -> list[list[int]]:
        batches = TensorBatches(images, targets, 5, torch.Generator().manual_seed(seed))
        return [[int(t) for _, part in batches for t in part] for _ in range(2)]

    first = orders(0)
    assert all(sorted(order) == list(range(10)) for order in first)
    assert first[0] != first[1]
    assert first == orders(0) != orders(1)


class TooSmall(torch.nn.Module):
    """Stands for a device that holds ``limit`` images."""

    def __init__(self, inner: torch.nn.Module, limit: int) -> None:
        super().__init__()
        self.inner, self.limit, self.seen = inner, limit, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.limit:
            raise torch.OutOfMemoryError("too many images")
        self.seen += len(images)
        features: torch.Tensor = self.inner(images)
        return features


def test_memory_back_off_keeps_the_effective_batch(
    catalog: Catalog, data: ClassificationData
) -> None:
    """A net without batch statistics ends with the same weights whatever fits on the device."""
    recipe = PLAIN.model_copy(update={"optimizer": "sgd", "lr": 0.1, "layer_decay": 1.0})

    def trained(limit: int) -> tuple[torch.Tensor, int]:
        torch.manual_seed(0)
        backbone = build_backbone(catalog.backbone("convnext_micro_random"), image_size=32)
        guarded = replace(backbone, module=TooSmall(backbone.module, limit))
        fabric = make_fabric("cpu", "auto")
        few = Split(data.train.images[:64], data.train.targets[:64])
        loop = Loop(
            model=Classifier(guarded, 10),
            recipe=recipe,
            fabric=fabric,
            batches=train_batches(few, recipe, backbone, device=fabric.device, workers=0, seed=0),
            classes=10,
            emit=lambda progress: None,
        )
        loop.epoch(0)
        return loop.model.head.weight.detach().clone(), loop.micro_batches

    whole, parts = trained(32)
    assert parts == 1
    split, parts = trained(8)
    assert parts == 4
    torch.testing.assert_close(whole, split, rtol=1e-3, atol=1e-5)
    with pytest.raises(BobError, match="with a single image"):
        trained(0)


def test_full_recipe_of_the_paper_runs(catalog: Catalog, data: ClassificationData) -> None:
    """RandAugment, crops, flips, erasing, mixup and CutMix, through timm's own parts."""
    recipe = FinetuneRecipe(epochs=1, batch_size=64, image_size=32)
    loop = make_loop(catalog, data, recipe)
    images, targets = next(iter(loop.batches))
    assert images.shape == (64, 3, 32, 32)
    plain = normalised(data.train.images[:128], build_backbone(
        catalog.backbone("resnet_micro_glyphs"), image_size=32))  # fmt: skip
    assert not any(torch.equal(images[0], image) for image in plain)
    assert loop.mixup is not None
    _, soft = loop.mixup(images.clone(), targets)
    assert soft.shape == (64, 10)
    torch.testing.assert_close(soft.sum(1), torch.ones(64))
    values = loop.epoch(0)
    assert np.isfinite(values["train_loss"])


def test_metrics_agree_with_scikit_learn() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(500, 7), torch.randint(0, 7, (500,))
    values = classification_metrics(logits, targets)
    labels = list(range(7))
    assert values["top1"] == pytest.approx(accuracy_score(targets, logits.argmax(1)))
    assert values["top5"] == pytest.approx(
        top_k_accuracy_score(targets, logits, k=5, labels=labels)
    )
    assert values["test_loss"] == pytest.approx(
        log_loss(targets, logits.double().softmax(1), labels=labels), rel=1e-4
    )
    logits[3, 2] = float("nan")
    assert np.isnan(classification_metrics(logits, targets)["top1"])


def test_run_case_end_to_end(tiny_case: Case) -> None:
    seen: list[Progress] = []
    result = run_case(tiny_case, Context(accelerator="cpu"), seen.append)
    assert result.failure is None
    assert [p.phase for p in seen if p.phase in ("load", "epoch")] == ["load", "epoch", "epoch"]
    assert seen[-1].metrics["top1"] == result.metrics["top1"]
    assert "system/cpu_utilization_percentage" in seen[-1].metrics
    assert len(result.history) == 2
    assert result.metrics["top1"] == result.history[-1]["top1"]
    assert result.metrics["best_top1"] == max(values["top1"] for values in result.history)
    assert result.outcomes is not None
    hits = result.outcomes.predictions == result.outcomes.targets
    assert hits.mean() == pytest.approx(result.metrics["top1"])
    assert result.environment["device"] == "cpu"
    assert result.peak_memory_mb > 0


def test_the_same_seed_gives_the_same_score(smoke_cases: dict[str, Case]) -> None:
    case = smoke_cases["resnet_micro_random"]
    assert isinstance(case.recipe, FinetuneRecipe)
    short = replace(case, recipe=case.recipe.model_copy(update={"epochs": 1}))
    first, again, other = (
        run_case(short.with_seed(seed), Context(accelerator="cpu")) for seed in (0, 0, 1)
    )
    assert first.metrics["test_loss"] == again.metrics["test_loss"]
    assert first.metrics["test_loss"] != other.metrics["test_loss"]


def test_unforeseen_errors_become_results(tiny_case: Case) -> None:
    broken = tiny_case.dataset.model_copy(update={"options": {"train_size": "many"}})
    failure = run_case(replace(tiny_case, dataset=broken), Context()).failure
    assert failure is not None
    assert failure.kind == "error"
    assert "Traceback" in failure.traceback


def test_unknown_precision_and_device(tiny_case: Case) -> None:
    failure = run_case(tiny_case, Context(precision="17-bit")).failure
    assert failure is not None
    assert "17-bit" in failure.message
    if not torch.cuda.is_available():
        failure = run_case(tiny_case, Context(accelerator="cuda")).failure
        assert failure is not None
        assert "No CUDA device" in failure.message
