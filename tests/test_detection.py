from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bob.case import Case, Context
from bob.catalog import Catalog
from bob.datasets import scenes
from bob.datasets.instances import Sample, Target
from bob.detection.data import TrainBatches, scoring_batches, scoring_size, train_transform
from bob.detection.engine import build_detector
from bob.detection.loop import DetectionLoop, parameter_groups, rate_at
from bob.distributed.group import batches_of
from bob.distributed.strategy import make_fabric
from bob.errors import BobError, TrainingDiverged
from bob.plan import Plan, Selection
from bob.protocols import PROTOCOLS
from bob.protocols.detection import ENGINES, DetectionRecipe
from bob.references.files import BUILTIN, ReferenceStore
from bob.run import run_case
from tests.detection_parts import FAMILIES, micro, smoke_recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOB_SCENES", str(tmp_path_factory.mktemp("scenes")))
        scenes.load.cache_clear()
        yield scenes.load(train=16, test=8)
        scenes.load.cache_clear()


# The adapter changes nothing


# Pyramids


# Training


def loop_of(
    catalog: Catalog, data: Any, recipe: DetectionRecipe, family: str = "resnet"
) -> DetectionLoop:
    torch.manual_seed(0)
    detector = build_detector(micro(catalog, family), recipe, 10)
    batches = TrainBatches(data.train, recipe, workers=0, seed=0)
    return DetectionLoop(detector, recipe, make_fabric("cpu", "auto"), batches, lambda p: None)


@pytest.mark.parametrize("family", FAMILIES)
def test_training_lowers_the_loss_and_detections_are_well_formed(
    catalog: Catalog, cases: dict[str, Case], data: Any, family: str
) -> None:
    loop = loop_of(
        catalog, data, smoke_recipe(cases, family, epochs=4, score_threshold=0.0), family
    )
    loop.run()
    losses = [values["train_loss"] for values in loop.history]
    assert losses[-1] < losses[0]
    found = loop.detect(data.test)
    assert len(found) == 8
    assert sum(map(len, found)) > 0
    for detections in found:
        assert detections.masks is not None
        assert (
            len(detections.boxes)
            == len(detections.scores)
            == len(detections.labels)
            == len(detections.masks)
            <= 20
        )
        assert ((detections.boxes >= 0) & (detections.boxes <= 64)).all()
        assert all(mask["size"] == [64, 64] for mask in detections.masks)
        assert json.dumps(detections.masks)


def test_a_frozen_backbone_stays_as_it_is(
    catalog: Catalog, cases: dict[str, Case], data: Any
) -> None:
    for frozen in (True, False):
        loop = loop_of(catalog, data, smoke_recipe(cases, epochs=1, frozen=frozen))
        maps: Any = loop.detector.maps
        before = {key: value.clone() for key, value in maps.module.state_dict().items()}
        loop.run()
        after = maps.module.state_dict()
        same = [torch.equal(before[key], after[key]) for key in before]
        assert all(same) == frozen
        statistics = [key for key in before if "running" in key]
        assert statistics
        assert all(torch.equal(before[key], after[key]) for key in statistics)


def test_memory_back_off_keeps_the_effective_batch(
    catalog: Catalog, cases: dict[str, Case], data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = loop_of(catalog, data, smoke_recipe(cases, epochs=1, batch_size=8))
    forward = type(loop.detector).forward
    sizes: list[int] = []

    def small(self: Any, images: Any, about: Any) -> Any:
        if self.training and len(images) > 2:
            raise torch.OutOfMemoryError("simulated")
        sizes.append(len(images))
        return forward(self, images, about)

    monkeypatch.setattr(type(loop.detector), "forward", small)
    loop.run()
    assert loop.micro_batches == 4
    assert loop.images_seen == 16
    assert sizes == [2] * 8
    monkeypatch.setattr(
        type(loop.detector), "forward", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError())
    )
    with pytest.raises(BobError, match="Out of memory on cpu with a single image of 64 x 64"):
        loop.run()


def test_a_loss_that_is_not_finite_ends_the_case(
    catalog: Catalog, cases: dict[str, Case], data: Any
) -> None:
    loop = loop_of(catalog, data, smoke_recipe(cases, epochs=1))
    with torch.no_grad():
        next(loop.detector.parameters()).fill_(float("nan"))
    with pytest.raises((TrainingDiverged, AssertionError)):
        loop.run()


def test_training_lets_pythons_collector_look_again(
    catalog: Catalog, cases: dict[str, Case], data: Any
) -> None:
    seen: list[int] = []
    loop = loop_of(catalog, data, smoke_recipe(cases, epochs=1))
    loop.emit = lambda progress: seen.append(gc.get_freeze_count())
    loop.run()
    assert min(seen) > 100_000
    assert gc.get_freeze_count() == 0
    with torch.no_grad():
        next(loop.detector.parameters()).fill_(float("nan"))
    with pytest.raises((TrainingDiverged, AssertionError)):
        loop.run()
    assert gc.get_freeze_count() == 0


def test_schedules() -> None:
    step = rate_at(DetectionRecipe(warmup_updates=10), 100)
    assert step(0) == pytest.approx(1e-3)
    assert step(5) == pytest.approx(0.5005)
    assert step(2699) == 1
    assert step(2700) == pytest.approx(0.1)
    assert step(3300) == pytest.approx(0.01)
    cosine = rate_at(DetectionRecipe(schedule="cosine", warmup_updates=0, epochs=1), 100)
    assert [cosine(0), cosine(50), cosine(100)] == pytest.approx([1, 0.5, 0])


def test_parameter_groups(catalog: Catalog, cases: dict[str, Case]) -> None:
    recipe = smoke_recipe(cases, decay_norms=False, backbone_lr=0.1, lr=1.0)
    detector = build_detector(micro(catalog, "swin"), recipe, 10)
    groups = parameter_groups(detector, recipe)
    assert sum(len(group["params"]) for group in groups) == len(list(detector.parameters()))
    assert [group["lr"] for group in groups] == [1.0, 1.0, 0.1, 0.1]
    spared = [p for group in groups if not group["weight_decay"] for p in group["params"]]
    maps: Any = detector.maps
    tables = [p for n, p in maps.module.named_parameters() if "relative_position_bias" in n]
    assert all(any(table is parameter for parameter in spared) for table in tables)


# Augmentation


def large(height: int, width: int) -> Sample:
    mask = torch.zeros(1, height, width, dtype=torch.bool)
    mask[:, 100:300, 50:250] = True
    box = torch.tensor([[50.0, 100, 250, 300]])
    return Sample(
        torch.full((3, height, width), 100, dtype=torch.uint8),
        Target(box, torch.tensor([4]), mask), 0,
    )  # fmt: skip


@pytest.mark.parametrize("augmentation", ["multiscale", "lsj", "none"])
def test_boxes_follow_their_masks(augmentation: Any) -> None:
    recipe = DetectionRecipe(augmentation=augmentation, image_size=512)
    apply = train_transform(recipe)
    torch.manual_seed(0)
    kept = 0
    for _ in range(6):
        out = apply(large(400, 600))
        assert out.image.dtype == torch.uint8
        if augmentation == "lsj":
            assert out.image.shape[-2:] == (512, 512)
        elif augmentation == "multiscale":
            assert min(out.image.shape[-2:]) <= 800
            assert max(out.image.shape[-2:]) <= 1333
        assert out.target.masks is not None
        for box, mask in zip(out.target.boxes, out.target.masks, strict=True):
            kept += 1
            rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
            tight = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            torch.testing.assert_close(box, torch.tensor(tight).float(), atol=2.0, rtol=0)
    assert kept


def test_scoring_sizes_and_order(data: Any, cases: dict[str, Case]) -> None:
    assert scoring_size(DetectionRecipe(), 480, 640) == (800, 1067)
    assert scoring_size(DetectionRecipe(), 400, 1600) == (333, 1333)
    assert scoring_size(DetectionRecipe(augmentation="lsj"), 480, 640) == (768, 1024)
    batches = list(scoring_batches(data.test, smoke_recipe(cases), batches_of(data.test, 3), 0))
    assert [len(images) for images, _ in batches] == [3, 3, 2]
    assert batches[0][1] == [(64, 64)] * 3


def test_detections_come_back_in_the_images_own_pixels(
    catalog: Catalog, cases: dict[str, Case], data: Any
) -> None:
    recipe = smoke_recipe(cases, score_threshold=0.0)
    detector = build_detector(micro(catalog, "resnet"), recipe, 10).eval()
    with torch.inference_mode():
        small = detector([torch.rand(3, 32, 64)], [(32, 64)])[0]
        torch.manual_seed(0)
        image = torch.rand(3, 64, 48)
        own, twice = detector([image, image], [(64, 48), (128, 96)])
    assert small.boxes[:, 3].max() <= 32
    torch.testing.assert_close(own.boxes * 2, twice.boxes)
    assert twice.masks is not None
    assert twice.masks[0]["size"] == [128, 96]


# Whole cases


@pytest.mark.slow
@pytest.mark.parametrize("task", ["detection", "ood_detection"])
def test_a_case_gives_scores_and_files(
    cases: dict[str, Case], task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOB_SCENES", str(tmp_path))
    scenes.load.cache_clear()
    case = cases[f"{task} resnet_micro_glyphs"]
    case = Case(**{**vars(case), "recipe": case.recipe.model_copy(update={"epochs": 1})})
    result = run_case(case, Context(accelerator="cpu"))
    assert gc.get_freeze_count() > 100_000
    scenes.load.cache_clear()
    assert result.failure is None, result.failure
    judged = {metric.name for metric in case.judged}
    assert judged <= set(result.metrics)
    assert ("mask_ap" in result.metrics) == (task == "detection")
    prefix = "" if task == "detection" else "handwritten_"
    for name in ("detections.json", "per_class.csv", "detections.png", "precision_recall.png"):
        assert result.files[prefix + name]
    assert 0 <= result.metrics["chance_bound"] < 0.2
    if task == "ood_detection":
        assert result.metrics["gap"] == pytest.approx(
            result.metrics["box_ap"] - result.metrics["shifted_box_ap"]
        )


def test_the_engine_is_part_of_name_and_protocol(catalog: Catalog) -> None:
    torchvision_case, detectron2_case = (
        Plan(catalog, Selection(engine=engine)).cases("detection")[0]
        for engine in ("torchvision", "detectron2")
    )
    assert torchvision_case.name == "convnext_micro_glyphs-digit_scenes-torchvision"
    assert detectron2_case.setting == "detection/digit_scenes/detectron2"
    assert torchvision_case.protocol != detectron2_case.protocol
    assert [judged.name for judged in torchvision_case.judged] == [
        "box_ap",
        "mask_ap",
        "train_loss",
    ]
    boxes = Plan(catalog, Selection(scale="full", backbones=("vit_micro_glyphs",)))
    assert [judged.name for judged in boxes.cases("ood_detection")[0].judged] == [
        "shifted_box_ap", "train_loss",
    ]  # fmt: skip


def test_the_papers_recipes(catalog: Catalog) -> None:
    selection = Selection(scale="full", backbones=("timm:vit_base_patch16_224,pretrained=false",))
    recipe: Any = Plan(catalog, selection).cases("detection")[0].recipe
    assert (recipe.engine, recipe.augmentation, recipe.box_loss) == (
        "detectron2",
        "lsj",
        "smooth_l1",
    )
    selection = Selection(
        scale="full", backbones=("timm:convnext_tiny,pretrained=false",), engine="torchvision"
    )
    recipe = Plan(catalog, selection).cases("detection_frozen")[0].recipe
    assert (recipe.engine, recipe.frozen, recipe.drop_path) == ("torchvision", True, 0.4)


def test_a_missing_dataset_skips_with_the_remedy(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BOB_DATA", str(tmp_path))
    project.makepyfile(
        test_suite="import pytest\n\n@pytest.mark.detection\n"
        "def test_detection(case, battle):\n    battle(case)\n"
    )
    result = project.runpytest(
        "--scale", "full", "--engine", "torchvision", "--backbone", "resnet_micro_random", "-rs"
    )
    result.assert_outcomes(skipped=1)
    assert "annotations_trainval2017.zip" in result.stdout.str()


def test_a_users_coco_folder(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parts = scenes._handwritten()
    for number, part in enumerate(("train", "val")):
        scenes.write_split(tmp_path, part, parts[number], count=24, seed=number)
    for file in (tmp_path / "annotations").iterdir():
        content = json.loads(file.read_text())
        for annotation in content["annotations"]:
            del annotation["segmentation"]
        file.write_text(json.dumps(content))
    project.makepyfile(
        test_suite="import pytest\n\n@pytest.mark.detection\n"
        "def test_detection(case, battle):\n    battle(case)\n"
    )
    project.makefile(
        ".yaml",
        short="scales:\n  short:\n    tasks:\n      detection:\n        datasets: [digit_scenes]\n"
        "        recipe: {engine: torchvision, box_loss: smooth_l1, augmentation: none, "
        "image_size: 64, strides: [4, 8, 16], channels: 16, head_norm: '', epochs: 1, "
        "batch_size: 8, roi_batch: 8, head_convs: 0, head_fcs: [16], mask_convs: 1}\n",
    )
    result = project.runpytest(
        "--catalog", "short.yaml", "--scale", "short", "--dataset", f"coco:{tmp_path}",
        "--backbone", "resnet_micro_random", "--bands", "new", "--seeds", "1",
    )  # fmt: skip
    result.stdout.fnmatch_lines([f"resnet_micro_random *coco:{tmp_path.name}/torchvision *box_ap*"])
    assert "mask_ap" not in result.stdout.str()
    result = project.runpytest("--dataset", "coco:nowhere", "--collect-only")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: No folder *nowhere*"])
    scenes.write_split(tmp_path / "two" / tmp_path.name, "train", parts[0], count=2, seed=3)
    scenes.write_split(tmp_path / "two" / tmp_path.name, "val", parts[1], count=2, seed=4)
    twin = f"coco:{tmp_path / 'two' / tmp_path.name}"
    result = project.runpytest("--dataset", f"coco:{tmp_path}", "--dataset", twin, "--collect-only")
    result.stderr.fnmatch_lines(["ERROR: Two datasets are named *Tell them apart with name=*"])
    result = project.runpytest("--dataset", "digit_scene", "--collect-only")
    result.stderr.fnmatch_lines(["ERROR: Unknown dataset 'digit_scene'. Did you mean *"])


def test_planning_a_users_folder_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, bob.catalog.coco_folder\n"
        "print([name for name in ('torch', 'PIL', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "torch" not in done.stdout


@pytest.mark.parametrize("family", FAMILIES)
def test_pretraining_helps_detection(family: str) -> None:
    store = ReferenceStore(BUILTIN)
    means: dict[tuple[str, str], float] = {}
    for file, setting, reference in store.all("smoke"):
        if "detection" in setting:
            values = reference.metric(PROTOCOLS[setting.split("/")[0]].metric)
            assert len(values) >= 8
            means[setting, file.backbone] = sum(values) / len(values)
    settings = {setting for setting, _ in means}
    assert len(settings) == 3 * len(ENGINES)
    for setting in settings:
        assert means[setting, f"{family}_micro_glyphs"] > means[setting, f"{family}_micro_random"]
