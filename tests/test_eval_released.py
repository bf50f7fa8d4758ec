"""eval_released on timm's smallest models, held against timm's own transform and model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from PIL.Image import Image
from safetensors.torch import save_file
from timm.data import create_transform, resolve_data_config
from torchvision.transforms.functional import to_pil_image

from bob.backbones import build_released
from bob.case import Case, Context, Result
from bob.catalog import BackboneEntry, Catalog, DatasetEntry, load_catalog, parse_backbone
from bob.datasets import ClassificationData, Shift, ShiftData, Split
from bob.metrics.shift import masked
from bob.plan import Plan, Selection
from bob.run import run_case

CLASSES = 1000
HELD = tuple(range(0, CLASSES, 5))
"""Classes of the shifted target, as many as ImageNet-A holds."""


def noise(count: int, seed: int, targets: torch.Tensor) -> Split:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 8, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=(72, 96), mode="bicubic").clamp(0, 1)
    return Split((images * 255).to(torch.uint8), targets)


def load(shifted: bool) -> ClassificationData:
    """Loader of the catalog file below: a thousand classes, a shift that holds 200 of them."""
    test = noise(60, 1, torch.arange(0, 300, 5))
    parts = {
        "sha256": "0" * 64,
        "class_names": tuple(f"class {index}" for index in range(CLASSES)),
        "train": Split(test.images[:0], test.targets[:0]),
        "test": test,
    }
    if not shifted:
        return ClassificationData(**parts)
    split = noise(40, 2, torch.tensor(HELD[:40]))
    shift = Shift(name="imagenet_a", group="imagenet_a", split=split, classes=HELD)
    return ShiftData(**parts, shifts=(shift,))


CATALOG = """
datasets:
  {key}:
    loader: tests.test_eval_released:load
    options: {{shifted: {shifted}}}
    kind: {kind}
    sha256: null
    classes: {classes}
    test_size: 60
scales:
  small:
    tasks:
      eval_released: {{datasets: [{key}]}}
"""


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A classifier of a thousand classes, untrained but fixed."""
    torch.manual_seed(0)
    path = tmp_path / "vit.safetensors"
    save_file(timm.create_model("test_vit", num_classes=CLASSES).state_dict(), path)
    return path


@pytest.fixture
def make_case(tmp_path: Path) -> Callable[..., Case]:
    def make(backbone: str, *, shifted: bool = False) -> Case:
        path = tmp_path / "small.yaml"
        path.write_text(
            CATALOG.format(
                key="variants" if shifted else "val",
                shifted=str(shifted).lower(),
                kind="shift" if shifted else "classification",
                classes=CLASSES,
            )
        )
        selection = Selection(scale="small", backbones=(backbone,))
        (case,) = Plan(load_catalog([path]), selection).cases("eval_released")
        return case

    return make


def timms_own(weights: Path, split: Split) -> torch.Tensor:
    """Logits by timm alone, as its ``validate.py`` reads them."""
    model = timm.create_model("test_vit", num_classes=CLASSES, checkpoint_path=str(weights)).eval()
    config = resolve_data_config({}, model=model, use_test_size=True)
    transform = create_transform(**config, is_training=False)
    with torch.inference_mode():
        return model(torch.stack([transform(to_pil_image(image)) for image in split.images]))


def run(case: Case, workers: int = 0) -> Result:
    return run_case(case, Context(accelerator="cpu", precision="32-true", workers=workers))


def share(logits: torch.Tensor, targets: torch.Tensor, k: int) -> float:
    hits = (logits.topk(k, dim=1).indices == targets[:, None]).any(dim=1)
    return float(hits.double().mean())


@pytest.mark.parametrize("workers", [0, 1])
def test_scores_are_those_of_timms_own_transform_and_model(
    make_case: Callable[..., Case],
    weights: Path,
    workers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = load(shifted=False)
    own = timms_own(weights, data.test)
    # every second label is what timm's own logits say, so that the scores are not all zero
    data.test.targets[::2] = own.argmax(dim=1)[::2]
    monkeypatch.setattr("tests.test_eval_released.load", lambda shifted: data)
    result = run(make_case(f"{weights},model=test_vit"), workers)
    assert result.failure is None, result.failure
    assert result.outcomes is not None
    assert result.outcomes.predictions.tolist() == own.argmax(dim=1).tolist()
    expected = torch.nn.functional.cross_entropy(own, data.test.targets)
    assert result.metrics["test_loss"] == pytest.approx(float(expected), abs=1e-5)
    assert result.metrics["top1"] == pytest.approx(share(own, data.test.targets, 1))
    assert result.metrics["top1"] == pytest.approx(0.5, abs=0.05)
    assert result.metrics["top5"] == pytest.approx(share(own, data.test.targets, 5))
    assert result.image_size == 160


def test_top_scores_of_a_shift_are_read_under_its_mask(
    make_case: Callable[..., Case], weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load(shifted=True)
    assert isinstance(data, ShiftData)
    (shift,) = data.shifts
    raw = timms_own(weights, shift.split)
    among = masked(raw, HELD)
    assert (raw.argmax(dim=1) != among.argmax(dim=1)).any()
    # half of the labels are what the masked classifier says, half are one class off
    truth = among.argmax(dim=1)
    wrong = torch.tensor([HELD[(HELD.index(int(label)) + 1) % len(HELD)] for label in truth])
    shift.split.targets[:] = torch.where(torch.arange(len(truth)) % 2 == 0, truth, wrong)
    monkeypatch.setattr("tests.test_eval_released.load", lambda shifted: data)

    case = make_case(f"{weights},model=test_vit", shifted=True)
    assert [metric.name for metric in case.judged] == ["top1", "test_loss", "shifted_top1"]
    result = run(case)
    assert result.failure is None, result.failure
    metrics, targets = result.metrics, shift.split.targets
    assert metrics["shift/imagenet_a"] == metrics["shifted_top1"] == pytest.approx(0.5)
    assert share(raw, targets, 1) < 0.5
    assert metrics["shift_top5/imagenet_a"] == pytest.approx(share(among, targets, 5))
    source = masked(timms_own(weights, data.test), HELD)
    assert metrics["source_top1/imagenet_a"] == pytest.approx(share(source, data.test.targets, 1))
    assert metrics["source_top5/imagenet_a"] == pytest.approx(share(source, data.test.targets, 5))
    assert set(result.files) == {"classes.csv", "shifts.csv", "shifts.png"}


def test_preprocessing_is_the_release_own(weights: Path, catalog: Catalog) -> None:
    torch.manual_seed(0)
    save_file(timm.create_model("resnet50").state_dict(), weights)
    entry = parse_backbone(f"{weights},model=resnet50.a1_in1k", catalog)
    built = build_released(entry)
    config = timm.get_pretrained_cfg("resnet50.a1_in1k").to_dict()
    assert built.image_size == config["test_input_size"][-1] != config["input_size"][-1]
    image: Image = load(shifted=False).test.pil(3)
    wanted = create_transform(
        **resolve_data_config(pretrained_cfg=config, use_test_size=True), is_training=False
    )
    assert torch.equal(built.transform(image), wanted(image))
    shifted = build_released(entry.model_copy(update={"mean": (0.1, 0.2, 0.3)}))
    assert not torch.equal(shifted.transform(image), wanted(image))


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("timm:vit_small_patch16_224.dino", "vit_small_patch16_224.dino has none"),
        ("timm:convnext_base.fb_in22k", "has 21,841 outputs"),
        ("timm:vit_base_patch16_clip_224.openai", "has 512 outputs"),
        ("timm:test_vit,pretrained=false", "its weights are random"),
        ("swin_micro_glyphs", "bob.backbones.micro:swin_micro has none"),
        ("bob.backbones.micro:pooled_pixels", "two images came out as (2, "),
    ],
)
def test_a_backbone_without_classifier_skips(
    make_case: Callable[..., Case], spec: str, why: str
) -> None:
    result = run(make_case(spec))
    assert result.failure is not None
    assert result.failure.kind == "unavailable"
    assert why in result.failure.message
    assert "1,000 classes" in result.failure.message
    assert not result.failure.traceback


def test_a_checkpoint_without_head_skips_and_a_damaged_one_fails(
    make_case: Callable[..., Case], weights: Path
) -> None:
    state = timm.create_model("test_vit", num_classes=CLASSES).state_dict()
    bare = {key: value for key, value in state.items() if not key.startswith("head.")}
    save_file(bare, weights)
    failure = run(make_case(f"{weights},model=test_vit")).failure
    assert failure is not None
    assert failure.kind == "unavailable"
    assert "vit.safetensors holds no classifier to evaluate: head." in failure.message

    save_file(timm.create_model("test_vit", num_classes=21841).state_dict(), weights)
    failure = run(make_case(f"{weights},model=test_vit")).failure
    assert failure is not None
    assert failure.kind == "unavailable"
    assert "of shape (21841" in failure.message

    save_file({key: value for key, value in state.items() if "blocks.0" not in key}, weights)
    failure = run(make_case(f"{weights},model=test_vit")).failure
    assert failure is not None
    assert failure.kind == "weights"


def test_a_logit_that_is_not_finite_is_an_error(
    make_case: Callable[..., Case], weights: Path
) -> None:
    state = timm.create_model("test_vit", num_classes=CLASSES).state_dict()
    state["head.bias"][7] = float("nan")
    save_file(state, weights)
    failure = run(make_case(f"{weights},model=test_vit")).failure
    assert failure is not None
    assert failure.kind == "backbone"
    assert "NaN or infinite" in failure.message


def test_other_classes_than_imagenets_are_refused(
    make_case: Callable[..., Case], weights: Path, catalog: Catalog
) -> None:
    case = make_case(f"{weights},model=test_vit")
    digits: DatasetEntry = catalog.dataset("digits")
    failure = run(replace(case, dataset=digits)).failure
    assert failure is not None
    assert failure.kind == "dataset"
    assert "has 10 classes" in failure.message


def test_features_are_still_without_the_head(weights: Path, catalog: Catalog) -> None:
    from bob.backbones import build_backbone

    entry: BackboneEntry = parse_backbone(f"{weights},model=test_vit", catalog)
    assert build_backbone(entry, image_size=None).num_features == 64
    assert build_released(entry).image_size == 160
    sized = entry.model_copy(update={"arguments": {"img_size": 96}})
    assert build_released(sized).image_size == 96
