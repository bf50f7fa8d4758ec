"""Public classification datasets, read from miniatures in their owners' layout and run."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bob.case import Case, Context, Result
from bob.catalog import Catalog, DatasetEntry, load_catalog
from bob.datasets import (
    AnySplit,
    ClassificationData,
    ImageSplit,
    MultilabelData,
    ShiftData,
    load_dataset,
)
from bob.errors import BobError
from bob.plan import Plan, Selection
from bob.protocols.finetune import FinetuneRecipe
from bob.protocols.knn import KnnRecipe
from bob.protocols.linear_probe import ProbeRecipe
from bob.record import Record
from bob.run import run_case
from tests import miniatures
from tests.miniatures import BUILDERS, SHARES, STEP, WNIDS, Mini

SHIFTS = ("imagenet_a", "imagenet_r", "imagenet_v2", "imagenet_sketch")
CONTEXT = Context(accelerator="cpu", precision="32-true", workers=0)
KNN = KnnRecipe(image_size=32, k=1, others=())
PLAIN = {
    "epochs": 2, "batch_size": 6, "image_size": 32, "lr": 0.05, "layer_decay": 1.0,
    "warmup_epochs": 0, "drop_path": 0.0, "rand_augment": None, "color_jitter": 0.0,
    "crop_scale": 1.0, "hflip": 0.0, "random_erase": 0.0,
}  # fmt: skip


def small(entry: DatasetEntry, mini: Mini, **options: object) -> DatasetEntry:
    return entry.model_copy(
        update={
            "classes": mini.classes,
            "train_size": len(mini.train),
            "test_size": len(mini.test),
            "options": {**entry.options, **options},
        }
    )


def run(catalog: Catalog, entry: DatasetEntry, task: str, recipe: Record) -> Result:
    case = Case(
        backbone=catalog.backbone("pixels_coarse"),
        task=task,
        dataset=entry,
        scale="tiny",
        recipe=recipe,
    )
    return run_case(case, CONTEXT)


def agrees(split: AnySplit) -> bool:
    """Whether every image is of the class that its target says."""
    assert isinstance(split, ImageSplit)
    reds = [split.pil(index).getpixel((9, 9))[0] for index in range(len(split))]  # type: ignore[index]
    return all(
        abs(red - 20 - STEP * int(target)) < STEP / 2
        for red, target in zip(reds, split.targets, strict=True)
    )


@pytest.mark.parametrize("key", sorted(BUILDERS))
def test_every_set_is_read_from_its_own_layout_and_runs(
    key: str, root: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini = BUILDERS[key](root, monkeypatch)
    entry = small(catalog.dataset(key), mini)
    data = load_dataset(entry)
    assert isinstance(data, ClassificationData)
    assert data.train.targets.tolist() == list(mini.train)
    assert data.test.targets.tolist() == list(mini.test)
    assert len(set(data.class_names)) == mini.classes
    assert agrees(data.train)
    assert agrees(data.test)
    result = run(catalog, entry, "knn", KNN)
    assert result.failure is None, result.failure
    assert result.metrics["top1"] == 1.0
    assert result.data_digest == data.sha256 == load_dataset(entry).sha256


@pytest.mark.parametrize("key", sorted(SHARES))
def test_a_share_is_the_first_images_of_each_class(
    key: str, root: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini = BUILDERS[SHARES[key]](root, monkeypatch)
    whole = load_dataset(small(catalog.dataset(SHARES[key]), mini))
    asked = {part: count for part, count in catalog.dataset(key).options.items() if "_per" in part}
    assert {part: getattr(catalog.dataset(key), f"{part[:-10]}_size") for part in asked} == {
        part: catalog.dataset(key).classes * count  # type: ignore[operator]
        for part, count in asked.items()
    }
    entry = small(catalog.dataset(key), mini, **dict.fromkeys(asked, 1))
    data = load_dataset(entry.model_copy(update={"train_size": None, "test_size": None}))
    assert isinstance(data, ClassificationData)
    assert isinstance(whole, ClassificationData)
    for part in ("train", "test"):
        split, every = getattr(data, part), getattr(whole, part)
        rows = range(len(every))
        if f"{part}_per_class" in asked:
            labels = every.targets.tolist()
            rows = sorted(labels.index(label) for label in set(labels))
        assert split.targets.tolist() == every.targets[list(rows)].tolist()
        assert [split.pil(i).tobytes() for i in range(len(split))] == [
            every.pil(row).tobytes() for row in rows
        ]
    with pytest.raises(BobError, match=r"has \d images of class \d, not 9"):
        load_dataset(small(catalog.dataset(key), mini, **dict.fromkeys(asked, 9)))


@pytest.mark.parametrize("key", ["imagenet_ood", *SHIFTS])
def test_shifted_imagenet_is_read_and_runs(key: str, root: Path, catalog: Catalog) -> None:
    held = SHIFTS if key == "imagenet_ood" else (key,)
    mini = miniatures.imagenet_shifted(root, *held)
    entry = small(catalog.dataset(key), mini, complete=False)
    data = load_dataset(entry)
    assert isinstance(data, ShiftData)
    assert [(shift.name, shift.group) for shift in data.shifts] == [(name, name) for name in held]
    for shift in data.shifts:
        assert shift.classes == ((1, 4, 7) if shift.name[-2:] in ("_a", "_r") else ())
        assert agrees(shift.split)
    assert data.class_names[3:5] == ("crane (n02012849)", "crane (n03126707)")
    result = run(catalog, entry, "ood", ProbeRecipe(image_size=32, c=(1e5,)))
    assert result.failure is None, result.failure
    assert {name for name in result.metrics if name.startswith("shift/")} == {
        f"shift/{name}" for name in held
    }
    assert result.metrics["shifted_top1"] > 1 / len(WNIDS)


@pytest.mark.parametrize("key", ["imagenet_val", "imagenet_val_ood"])
def test_val_alone_needs_no_train_images(key: str, root: Path, catalog: Catalog) -> None:
    mini = miniatures.imagenet_shifted(root, *SHIFTS)
    shutil.rmtree(root / "imagenet/train")
    options = {} if key == "imagenet_val" else {"complete": False}
    entry = small(catalog.dataset(key), mini, **options).model_copy(update={"train_size": None})
    data = load_dataset(entry)
    assert isinstance(data, ClassificationData)
    assert len(data.train) == 0
    assert agrees(data.test)
    probed = run(catalog, entry, "linear_probe", ProbeRecipe(image_size=32))
    assert probed.failure is not None
    assert "its train split holds no images" in probed.failure.message


def test_a_fine_tuned_model_is_read_on_every_shift(root: Path, catalog: Catalog) -> None:
    mini = miniatures.imagenet_shifted(root, "imagenet_a", "imagenet_v2")
    entry = small(
        catalog.dataset("imagenet_ood"), mini, variants="imagenet_a imagenet_v2", complete=False
    ).model_copy(update={"needs": ()})
    recipe = FinetuneRecipe(**PLAIN, mixup=0, cutmix=0)  # type: ignore[arg-type]
    result = run(catalog, entry, "finetune", recipe)
    assert result.failure is None, result.failure
    shifted = [result.metrics[f"shift/{name}"] for name in ("imagenet_a", "imagenet_v2")]
    assert result.metrics["shifted_top1"] == pytest.approx(sum(shifted) / 2)
    assert "shifts.csv" in result.files
    assert [metric.name for metric in result.case.judged][-1] == "shifted_top1"
    # the same model on the plain source: nothing of its training changes
    plain = small(catalog.dataset("imagenet"), mini)
    own = run(catalog, plain, "finetune", recipe)
    for epoch, shifted_epoch in zip(own.history, result.history, strict=True):
        assert epoch == pytest.approx(shifted_epoch)
    assert "shifted_top1" not in own.metrics
    assert [metric.name for metric in own.case.judged] == ["top1", "test_loss", "train_loss"]


def test_an_incomplete_variant_would_be_easier_and_is_refused(root: Path, catalog: Catalog) -> None:
    mini = miniatures.imagenet_shifted(root, "imagenet_a")
    with pytest.raises(BobError, match=r"imagenet-a holds 3 classes and 6 images, published are 2"):
        load_dataset(small(catalog.dataset("imagenet_a"), mini))


def test_files_other_than_those_published_are_refused(
    root: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        miniatures.cifar(root, patch, False)
    with pytest.raises(BobError, match=r"CIFAR10 under .* not those published") as caught:
        load_dataset(catalog.dataset("cifar10"))
    assert caught.value.kind == "dataset"


def unpacked_in_part(root: Path) -> None:
    for image in (root / "semi_inat/val/3").iterdir():
        image.unlink()


def only_in_test(root: Path) -> None:
    miniatures.picture(root / "semi_inat/val/11/a.jpg", 11)


def flat(root: Path) -> None:
    (root / "semi_inat/val").rename(root / "semi_inat/elsewhere")
    miniatures.picture(root / "semi_inat/val/a.jpg", 1)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (unpacked_in_part, r"No image in .*semi_inat/val/3\. Unpack"),
        (only_in_test, r"hold different classes; only one of them has .*semi_inat/val/11"),
        (flat, r"semi_inat/val holds no class folders"),
    ],
)
def test_bad_folders_are_named(
    spoil: Callable[[Path], None], words: str, root: Path, catalog: Catalog
) -> None:
    mini = miniatures.semi_inat(root)
    spoil(root)
    with pytest.raises(BobError, match=words) as caught:
        load_dataset(small(catalog.dataset("semi_inat"), mini))
    assert caught.value.kind == "dataset"


def test_one_image_is_nothing_to_tell_apart(root: Path, catalog: Catalog) -> None:
    for part in ("l_train", "val"):
        miniatures.picture(root / "semi_inat" / part / "0/a.jpg", 0)
    with pytest.raises(BobError, match=r"holds 1 class: there is nothing to tell apart"):
        load_dataset(catalog.dataset("semi_inat"))


def test_one_image_a_class_runs(root: Path, catalog: Catalog) -> None:
    for part in ("l_train", "val"):
        miniatures.folders(root / "semi_inat" / part, ["0", "1"], 1, ".jpg")
    entry = small(catalog.dataset("semi_inat"), Mini(2, [0, 1], [0, 1]))
    assert run(catalog, entry, "knn", KNN).metrics["top1"] == 1.0


def test_an_unreadable_image_is_counted_and_told(root: Path, catalog: Catalog) -> None:
    mini = miniatures.semi_inat(root)
    (root / "semi_inat/l_train/4/4_1.jpg").write_bytes(b"no image")
    result = run(catalog, small(catalog.dataset("semi_inat"), mini), "knn", KNN)
    assert result.failure is None
    assert any("1 of 22 images cannot be read" in text for text in result.remarks)


def test_a_train_split_of_another_size_is_refused(root: Path, catalog: Catalog) -> None:
    mini = miniatures.semi_inat(root)
    entry = small(catalog.dataset("semi_inat"), mini).model_copy(update={"train_size": 23})
    with pytest.raises(BobError, match=r"has 22 train images; its entry says 23"):
        load_dataset(entry)


def test_lists_that_do_not_fit_are_named(
    root: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini = miniatures.visda2017(root)
    file = root / "visda2017/train/image_list.txt"
    file.write_text(file.read_text() + "bus/x.png seven\n")
    with pytest.raises(BobError, match=r"image_list.txt:7: 'bus/x.png seven' is not"):
        load_dataset(small(catalog.dataset("visda2017"), mini))
    mini = miniatures.imagenet_1pct(root)
    subset = root / "imagenet/1percent.txt"
    subset.write_text(subset.read_text() + f"{WNIDS[0]}_99.JPEG\n")
    with pytest.raises(BobError, match=r"names 1 images that are not in .*train/n01440764/n0"):
        load_dataset(small(catalog.dataset("imagenet_1pct"), mini))
    subset.write_text("n12345678_1.JPEG\n")
    with pytest.raises(BobError, match=r"1percent.txt:1: 'n12345678_1.JPEG' is of no class"):
        load_dataset(small(catalog.dataset("imagenet_1pct"), mini))
    mini = miniatures.dtd(root)
    (root / "dtd/dtd/labels/val1.txt").write_text("banded/banded_val.jpg\n")
    with pytest.raises(BobError, match=r"splits val and test differ in their classes \(knitted\)"):
        load_dataset(small(catalog.dataset("dtd"), mini))
    mini = miniatures.inat2019(root)
    content = json.loads((root / "inat2019/val2019.json").read_text())
    content["annotations"][0]["category_id"] = 77
    (root / "inat2019/val2019.json").write_text(json.dumps(content))
    with pytest.raises(BobError, match=r"val2019.json: .* does not know 77"):
        load_dataset(small(catalog.dataset("inat2019"), mini))


def test_pcam_without_h5py_is_skipped_with_the_remedy(
    root: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for need in catalog.dataset("pcam").needs:
        (root / need).parent.mkdir(exist_ok=True)
        (root / need).touch()
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(BobError, match=r"pip install h5py") as caught:
        load_dataset(catalog.dataset("pcam"))
    assert caught.value.kind == "unavailable"


@pytest.mark.parametrize("key", sorted([*BUILDERS, "chexpert", "imagenet_ood", *SHIFTS]))
def test_an_absent_set_says_how_to_get_it(key: str, root: Path, catalog: Catalog) -> None:
    entry = catalog.dataset(key)
    with pytest.raises(BobError) as caught:
        load_dataset(entry)
    assert caught.value.kind == "unavailable"
    assert entry.obtain in str(caught.value)
    assert entry.licence


CHEXPERT = """
datasets:
  radiographs:
    kind: multilabel
    loader: bob.datasets.library.chexpert:load
    options: {{policy: {policy}}}
    sha256: null
    classes: 5
    test_size: 9
scales:
  small:
    tasks:
      finetune_multilabel:
        datasets: [radiographs]
        recipe: {recipe}
"""


def radiographs(folder: Path, policy: str = "paper") -> Case:
    path = folder / "small.yaml"
    path.write_text(CHEXPERT.format(policy=policy, recipe=json.dumps(PLAIN)))
    selection = Selection(scale="small", backbones=("swin_micro_glyphs",))
    (case,) = Plan(load_catalog([path]), selection).cases("finetune_multilabel")
    return case


def test_chexpert_runs_and_every_label_is_scored(root: Path, tmp_path: Path) -> None:
    miniatures.chexpert(root)
    result = run_case(radiographs(tmp_path), CONTEXT)
    assert result.failure is None, result.failure
    by_label = {name: value for name, value in result.metrics.items() if name.startswith("auroc/")}
    assert sorted(by_label) == [
        "auroc/atelectasis", "auroc/cardiomegaly", "auroc/edema", "auroc/pleural_effusion",
    ]  # fmt: skip
    assert result.score == pytest.approx(sum(by_label.values()) / 4)
    assert 0 <= result.metrics["mean_auroc"] <= 1
    assert 0.5 < result.metrics["chance_bound"] <= 1
    assert any("Consolidation" in text for text in result.remarks)
    labels = {row["label"]: row for row in csv.DictReader(
        result.files["labels.csv"].decode().splitlines())}  # fmt: skip
    assert [*labels["Consolidation"].values()] == ["Consolidation", "0", "9", "", "", ""]
    for name, value in (("Edema", by_label["auroc/edema"]), ("mean", result.score)):
        row = labels[name]
        assert float(row["auroc"]) == pytest.approx(value, abs=1e-5)
        assert 0 <= float(row["low"]) < float(row["high"]) <= 1
    assert len(result.files["samples.csv"].decode().splitlines()) == 10


@pytest.mark.parametrize(
    ("policy", "heart", "edema"), [("paper", 0, 1), ("u_ones", 1, 1), ("u_zeros", 0, 0)]
)
def test_uncertain_findings_follow_the_policy(
    policy: str, heart: int, edema: int, root: Path, tmp_path: Path
) -> None:
    miniatures.chexpert(root)
    data = load_dataset(radiographs(tmp_path, policy).dataset)
    assert isinstance(data, MultilabelData)
    assert data.class_names[:2] == ("Cardiomegaly", "Edema")
    assert len(data.train) == 18  # lateral views are left out
    assert data.train.targets[2, :2].tolist() == [heart, edema]
    assert data.train.targets[1].tolist() == [1, 1, 1, 0, 1]
    assert not torch.isnan(data.train.targets).any()


def test_a_csv_without_a_column_names_both(root: Path, tmp_path: Path) -> None:
    miniatures.chexpert(root, miniatures.COLUMNS.replace("Edema", "Oedema"))
    with pytest.raises(BobError, match=r"train.csv has no column 'Edema'"):
        load_dataset(radiographs(tmp_path).dataset)
    miniatures.chexpert(root)
    file = root / "chexpert/CheXpert-v1.0-small/valid.csv"
    file.write_text(file.read_text().replace("1.0", "yes", 3))
    with pytest.raises(BobError, match=r"valid.csv:\d+: 'yes' is no finding"):
        load_dataset(radiographs(tmp_path).dataset)


def test_an_unknown_policy_or_variant_is_named(root: Path, tmp_path: Path) -> None:
    miniatures.chexpert(root)
    with pytest.raises(BobError, match=r"Unknown policy 'u_one'. Did you mean 'u_ones'"):
        load_dataset(radiographs(tmp_path, "u_one").dataset)


def test_missing_data_skip_the_case_with_the_remedy(project: pytest.Pytester, root: Path) -> None:
    result = project.runpytest("-rs", "--dataset", "flowers102", "-k", "pixels_fine")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*102flowers.tgz*robots.ox.ac.uk*"])
