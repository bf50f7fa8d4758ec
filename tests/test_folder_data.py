"""A user's own images: what a folder is read as, what is wrong with it, and real runs on it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bob.case import Context
from bob.catalog import Catalog, parse_dataset
from bob.catalog.image_folder import held_back, read_folder
from bob.datasets import ClassificationData, ImageSplit, load_dataset
from bob.errors import BobError
from bob.plan import Plan, Selection
from bob.run import run_case
from bob.tasks.recipes import FinetuneRecipe
from bob.training.data import train_batches

COLOURS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 40, 40)}


def picture(colour: tuple[int, int, int], seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(30, 60, 2)
    pixels = rng.integers(0, 80, (height, width, 3)).astype(np.uint8)
    pixels[8:-8, 8:-8] = colour
    return Image.fromarray(pixels)


def write_photos(root: Path, count: int, *, first: int = 0, classes: tuple[str, ...] = ()) -> None:
    for index, (name, colour) in enumerate(COLOURS.items()):
        if classes and name not in classes:
            continue
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            picture(colour, 1000 * index + number).save(folder / f"{number:03d}.png")


def touch(root: Path, *names: str) -> None:
    """Files whose content planning never looks at."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(bytes(len(Path(name).suffix)))


@pytest.fixture
def loaded(catalog: Catalog) -> Callable[[str], ClassificationData]:
    def load(spec: str) -> ClassificationData:
        data = load_dataset(parse_dataset(spec, catalog))
        assert isinstance(data, ClassificationData)
        return data

    return load


def test_one_level_is_split_the_same_whatever_the_order(tmp_path: Path) -> None:
    names = [f"{kind}/{number}.jpg" for kind in ("cat", "dog", "élan") for number in range(23)]
    contents = []
    for seed in (1, 2):
        shuffled = random.Random(seed).sample(names, len(names))
        touch(tmp_path / str(seed), *shuffled)
        contents.append(read_folder(tmp_path / str(seed)))
    first, second = contents
    assert first == second
    assert first.sha256 == second.sha256
    assert first.class_names == ("cat", "dog", "élan")
    assert [sum(one.label == label for one in first.test) for label in range(3)] == [5, 5, 5]
    assert {one.path for one in (*first.train, *first.test)} == set(names)
    assert not {one.path for one in first.train} & {one.path for one in first.test}


def test_the_split_is_the_one_every_machine_draws() -> None:
    keys = [f"cat/{number}.jpg" for number in range(10)]
    assert held_back(keys, 0.3, 0) == {1, 3, 5}
    assert held_back(keys, 0.3, 7) != held_back(keys, 0.3, 0)
    grown = held_back([*keys, "cat/new.jpg"], 0.3, 0)
    assert len(grown - {10} ^ held_back(keys, 0.3, 0)) <= 1


@pytest.mark.parametrize(("count", "tested"), [(1, 0), (2, 1), (3, 1), (10, 2), (100, 20)])
def test_every_class_keeps_an_image_to_learn_from(count: int, tested: int) -> None:
    assert len(held_back([str(one) for one in range(count)], 0.2, 0)) == tested
    assert len(held_back([str(one) for one in range(count)], 0.99, 0)) == max(0, count - 1)


def test_accents_composed_or_not_are_the_same_names(tmp_path: Path) -> None:
    for form, name in (("composed", "caf\u00e9"), ("decomposed", "cafe\u0301")):
        touch(tmp_path / form, *(f"{name}/{name}{n}.png" for n in range(9)), "tea/1.png")
    first, second = (read_folder(tmp_path / form) for form in ("composed", "decomposed"))
    assert first.sha256 == second.sha256
    assert first.class_names == second.class_names


@pytest.mark.parametrize("test", ["val", "valid", "validation", "test", "Test"])
def test_official_splits_are_kept(tmp_path: Path, test: str) -> None:
    touch(tmp_path, "train/a/1.png", "train/b/deep/er/2.JPG", f"{test}/a/3.png", f"{test}/b/4.tif")
    content = read_folder(tmp_path)
    assert [(one.path, one.label) for one in content.train] == [
        ("train/a/1.png", 0), ("train/b/deep/er/2.JPG", 1),
    ]  # fmt: skip
    assert [one.path for one in content.test] == [f"{test}/a/3.png", f"{test}/b/4.tif"]
    assert content.remarks == ()


def test_of_three_splits_val_is_left_alone(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        touch(tmp_path, f"{part}/a/{part}.png", f"{part}/b/{part}.png")
    content = read_folder(tmp_path)
    assert {Path(one.path).stem for one in content.train} == {"train"}
    assert {Path(one.path).stem for one in content.test} == {"test"}
    assert "'val' beside train/ and test/ is not used" in content.remarks
    other = read_folder(tmp_path, split="val")
    assert {Path(one.path).stem for one in other.test} == {"val"}
    assert other.sha256 != content.sha256


def test_a_train_folder_alone_is_split_and_a_class_may_be_called_train(tmp_path: Path) -> None:
    touch(tmp_path / "one", *(f"train/{kind}/{n}.png" for kind in "ab" for n in range(5)))
    assert read_folder(tmp_path / "one").class_names == ("a", "b")
    touch(tmp_path / "two", *(f"{kind}/{n}.png" for kind in ("car", "train") for n in range(5)))
    assert read_folder(tmp_path / "two").class_names == ("car", "train")


def test_clutter_is_ignored_and_odd_names_are_not(tmp_path: Path) -> None:
    touch(tmp_path, ".DS_Store", "__MACOSX/a/1.png", "a/.hidden.png", "a/Thumbs.db", "a/notes.txt")
    touch(tmp_path, "a/x y.png", "a/ünï.png", "b\nc/1\n2.png", "b\nc/,=[].png", "readme.md")
    content = read_folder(tmp_path)
    assert content.class_names == ("a", "b_c")
    assert {one.path for one in (*content.train, *content.test)} == {
        "a/x y.png", "a/ünï.png", "b\nc/1\n2.png", "b\nc/,=[].png",
    }  # fmt: skip
    assert content.remarks == ()


def test_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path / "else", "far.png", "further/away.png")
    touch(tmp_path / "data", "a/1.png", "b/1.png", "b/2.png")
    data = tmp_path / "data"
    (data / "a/loop").symlink_to(data / "a")
    (data / "a/self").symlink_to(data / "a/self")
    (data / "a/linked").symlink_to(tmp_path / "else")
    (data / "a/again").symlink_to(tmp_path / "else")
    (data / "b/gone.png").symlink_to(tmp_path / "nowhere.png")
    content = read_folder(data)
    found = [one.path for one in (*content.train, *content.test) if one.label == 0]
    assert sorted(found) == ["a/1.png", "a/again/far.png", "a/again/further/away.png"]
    assert content.remarks == ("'b/gone.png' leads nowhere and is left out",)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ((), r"holds no images\. Expected are class folders"),
        (("1.png", "2.png"), "holds 2 images and no class folders.*folder of its own"),
        (("a/1.heic", "b/2.heic"), r"holds no images \(but 2 .heic\)"),
        (("a/1.png",), "has one class, 'a'; there is nothing to tell apart"),
        (("a/1.png", "a/2.png", "b/x.txt"), r"class folder without images: 'b' \(but 1 .txt\)"),
        (("a/1.png", "b/1.png"), "No class in .* has two images"),
        (
            ("train/a/1.png", "train/b/1.png", "test/a/1.png", "test/c/1.png"),
            "test has images of 'c' and .*train has none.*take the class out",
        ),
        (("train/a/1.png", "train/b/1.png", "test/a/x.txt"), "test holds no images"),
        (("train/a/1.png", "train/b/x.txt", "test/a/1.png"), "class folder without images: 'b'"),
        (("train/1.png", "test/a/1.png"), "train holds 1 images and no class folders|holds no im"),
    ],
)
def test_what_is_wrong_is_named_with_the_remedy(
    tmp_path: Path, files: tuple[str, ...], words: str
) -> None:
    touch(tmp_path, *files)
    with pytest.raises(BobError, match=words):
        read_folder(tmp_path)


def test_no_folder_and_a_file(tmp_path: Path, catalog: Catalog) -> None:
    with pytest.raises(BobError, match=r"No folder .*nowhere\. Expected are class folders"):
        parse_dataset(f"folder:{tmp_path}/nowhere", catalog)
    touch(tmp_path, "cat.png")
    with pytest.raises(BobError, match=r"cat\.png is a file, not a folder"):
        parse_dataset(f"folder:{tmp_path}/cat.png", catalog)


def test_classes_with_too_few_images_are_told(tmp_path: Path) -> None:
    touch(tmp_path / "one", "a/1.png", "a/2.png", "b/1.png", "stray.png")
    content = read_folder(tmp_path / "one")
    assert [one.label for one in content.test] == [0]
    assert "'b' has one image, which is learnt from and not tested on" in content.remarks
    assert any("1 images directly in" in text for text in content.remarks)
    touch(tmp_path / "two", "train/a/1.png", "train/b/1.png", "test/a/2.png")
    assert read_folder(tmp_path / "two").remarks == ("'b' has train images and no test image",)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("test=1.5", "test=1.5: expected a share between 0 and 1"),
        ("seed=x", "seed=x: expected a whole number"),
        ("tset=0.2", "Unknown argument 'tset'. Did you mean 'test'"),
        ("name=", "name= has no value"),
        ("image=photo", "Unknown argument 'image'"),
        ("split=val", "no train/ and val/ to tell apart"),
    ],
)
def test_arguments_are_checked(tmp_path: Path, catalog: Catalog, options: str, words: str) -> None:
    touch(tmp_path, "a/1.png", "a/2.png", "b/1.png", "b/2.png")
    with pytest.raises(BobError, match=words):
        parse_dataset(f"folder:{tmp_path},{options}", catalog)


def test_a_share_makes_no_sense_beside_a_test_split(tmp_path: Path, catalog: Catalog) -> None:
    touch(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/2.png", "test/b/2.png")
    with pytest.raises(BobError, match="has test images of its own in test/; leave out test="):
        parse_dataset(f"folder:{tmp_path},test=0.3", catalog)
    with pytest.raises(BobError, match="no folder 'val' to score on; there is test"):
        parse_dataset(f"folder:{tmp_path},split=val", catalog)


def test_ids_follow_the_content_and_not_the_place(tmp_path: Path, catalog: Catalog) -> None:
    def case_id(folder: Path, options: str = "") -> str:
        spec = f"folder:{folder}{options}"
        selection = Selection(backbones=("vit_micro_random",), datasets=(spec,))
        return Plan(catalog, selection).cases("knn")[0].id

    touch(tmp_path / "here, a=b", *(f"{kind}/{n}.png" for kind in "ab" for n in range(9)))
    shutil.copytree(tmp_path / "here, a=b", tmp_path / "there")
    before = case_id(tmp_path / "there")
    assert before != case_id(tmp_path / "there", ",seed=1")
    (tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "there", tmp_path / "elsewhere" / "other")
    moved = tmp_path / "elsewhere" / "other"
    assert case_id(moved) == before
    assert case_id(moved, ",name=mine") == before
    touch(moved, "a/another.png")
    assert case_id(moved) != before


def test_a_digest_that_changed_since_planning_is_an_error(tmp_path: Path, catalog: Catalog) -> None:
    write_photos(tmp_path, 4)
    entry = parse_dataset(f"folder:{tmp_path}", catalog)
    assert (entry.classes, entry.train_size, entry.test_size) == (3, 9, 3)
    assert load_dataset(entry).sha256 == entry.sha256
    os.remove(tmp_path / "red" / "000.png")
    with pytest.raises(BobError, match="Scores on other data are not comparable"):
        load_dataset(entry)


def test_exact_copies_across_the_splits_are_counted(
    tmp_path: Path, loaded: Callable[[str], ClassificationData]
) -> None:
    write_photos(tmp_path / "train", 3)
    write_photos(tmp_path / "test", 2, first=50)
    assert loaded(f"folder:{tmp_path}").notes == ()
    shutil.copy(tmp_path / "train/red/001.png", tmp_path / "test/red/copy.png")
    # as large as a train image, and another one
    same_size = (tmp_path / "train/red/000.png").read_bytes()[:-1] + b"x"
    (tmp_path / "test/red/050.png").write_bytes(same_size)
    (note,) = loaded(f"folder:{tmp_path}").notes
    assert note.startswith("leakage: 1 of 7 test image is an exact copy of train images")


def test_planning_imports_no_decoder(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "a/2.png", "b/1.png", "b/2.png")
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "bob.cli", "plan",
         "--dataset", f"folder:{tmp_path}"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    imported = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "bob.catalog.image_folder" in imported
    loaded = {name.split(".", 1)[0] for name in imported}
    assert not loaded & {"torch", "timm", "mlflow", "PIL", "numpy", "datasets", "scipy"}
    assert f"-folder:{tmp_path.name}" in done.stdout


def write_odd_modes(root: Path) -> int:
    """One image of each mode and size that people have; returns how many cannot be read."""
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        image = picture(colour, len(name))
        image.convert("L").save(root / name / "grey.png")
        image.convert("CMYK").save(root / name / "print.jpg")
        image.convert("P").save(root / name / "palette.gif")
        image.convert("1").save(root / name / "fax.tiff")
        deep = np.asarray(image.convert("L")).astype(np.uint16) * 257
        Image.fromarray(deep).save(root / name / "deep.png")
        image.convert("RGBA").save(root / name / "clear.webp", lossless=True)
        exif = image.getexif()
        exif[274] = 6
        image.save(root / name / "turned.JPG", exif=exif)
        Image.new("RGB", (1, 1), colour).save(root / name / "dot.bmp")
    whole = (root / "red" / "turned.JPG").read_bytes()
    (root / "red" / "turned.JPG").write_bytes(whole[: len(whole) // 2])
    return 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "task", ["finetune", "linear_probe", "linear_probe_paper", "knn", "low_shot"]
)
def test_every_task_takes_a_small_folder_of_odd_modes(
    task: str, tmp_path: Path, catalog: Catalog
) -> None:
    write_odd_modes(tmp_path / "photos")
    result = run_task(task, f"folder:{tmp_path / 'photos'}", catalog)
    assert result.failure is None
    assert result.classes == 3
    assert result.test_size == 6
    assert 0 <= (result.score or 0) <= 1
    assert any("red/turned.JPG (OSError" in text for text in result.remarks)
    assert any("6 test images make a coarse score" in text for text in result.remarks)


def run_task(task: str, spec: str, catalog: Catalog):  # type: ignore[no-untyped-def]
    selection = Selection(backbones=("resnet_micro_glyphs",), datasets=(spec,))
    (case,) = Plan(catalog, selection).cases(task)
    return run_case(case, Context(accelerator="cpu", workers=0))


@pytest.mark.slow
@pytest.mark.parametrize(
    "task", ["finetune", "linear_probe", "linear_probe_paper", "knn", "low_shot"]
)
def test_two_classes_and_three_images_are_enough(
    task: str, tmp_path: Path, catalog: Catalog
) -> None:
    write_photos(tmp_path, 2, classes=("red",))
    write_photos(tmp_path, 1, classes=("blue",))
    result = run_task(task, f"folder:{tmp_path}", catalog)
    assert result.failure is None
    assert result.score in (0.0, 1.0)
    assert result.test_size == 1
    assert any("1 test image makes a coarse score" in text for text in result.remarks)


def test_mixed_images_come_in_pairs(tmp_path: Path, catalog: Catalog) -> None:
    from bob.backbones import build_backbone

    write_photos(tmp_path, 4, classes=("red",))
    write_photos(tmp_path, 5, classes=("blue",))
    data = load_dataset(parse_dataset(f"folder:{tmp_path}", catalog))
    assert isinstance(data, ClassificationData)
    assert len(data.train) == 7
    recipe = FinetuneRecipe(batch_size=64, image_size=32)
    backbone = build_backbone(catalog.backbone("resnet_micro_random"), image_size=32)
    batches = train_batches(
        data.train, recipe, backbone, device=torch.device("cpu"), workers=0, seed=0
    )
    ((images, targets),) = list(batches)
    assert len(images) == len(targets) == 6


def spoil(folder: Path, count: int) -> None:
    for path in sorted(folder.iterdir())[:count]:
        path.write_bytes(path.read_bytes()[:100])


def write_two_hundred(root: Path) -> None:
    write_photos(root / "train", 100, classes=("red", "blue"))
    write_photos(root / "test", 30, first=500, classes=("red", "blue"))


def test_one_unreadable_image_of_two_hundred_is_told(tmp_path: Path, catalog: Catalog) -> None:
    write_two_hundred(tmp_path)
    whole = run_task("knn", f"folder:{tmp_path}", catalog)
    spoil(tmp_path / "train" / "red", 1)
    result = run_task("knn", f"folder:{tmp_path}", catalog)
    assert result.failure is None
    assert result.score == pytest.approx(whole.score, abs=0.02)
    (told,) = [text for text in result.remarks if "cannot be read" in text]
    assert told.startswith("1 of 200 images cannot be read: ")
    assert str(tmp_path / "train" / "red" / "000.png") in told


def test_three_unreadable_images_of_two_hundred_fail_the_case(
    tmp_path: Path, catalog: Catalog
) -> None:
    write_two_hundred(tmp_path)
    spoil(tmp_path / "train" / "blue", 3)
    result = run_task("knn", f"folder:{tmp_path}", catalog)
    assert result.score is None
    assert result.failure is not None
    assert result.failure.kind == "dataset"
    assert "3 of 200 images cannot be read" in result.failure.message
    for number in range(3):
        assert str(tmp_path / "train" / "blue" / f"{number:03d}.png") in result.failure.message
    assert "restore the files, or take them out" in result.failure.message


def test_a_majority_guess_is_told_as_one(tmp_path: Path, catalog: Catalog) -> None:
    """Noise in two classes, nine to one: the score is high and says nothing."""
    rng = np.random.default_rng(0)
    for name, count in (("common", 90), ("rare", 10)):
        (tmp_path / name).mkdir()
        for number in range(count):
            noise = rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(noise).save(tmp_path / name / f"{number}.png")
    result = run_task("knn", f"folder:{tmp_path}", catalog)
    assert any("always naming the class of most test images" in text for text in result.remarks)


def test_released_classifiers_are_not_read_on_own_classes(tmp_path: Path) -> None:
    from bob.catalog import load_catalog

    extra = tmp_path / "released.yaml"
    extra.write_text(
        "scales:\n  known:\n    tasks:\n      eval_released: {datasets: [digits]}\n"
        "      knn: {datasets: [digits]}\n"
    )
    touch(tmp_path / "photos", *(f"{kind}/{n}.png" for kind in "ab" for n in range(5)))
    own = Selection("known", ("vit_micro_random",), datasets=(f"folder:{tmp_path / 'photos'}",))
    plan = Plan(load_catalog([extra]), own)
    assert [case.task for case in plan.all_cases()] == ["knn"]


# ----- the library `datasets` -----


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same images as ``save_to_disk``, Parquet and WebDataset shards."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features(
        {"id": datasets.Value("int64"), "photo": datasets.Image(),
         "kind": datasets.ClassLabel(names=list(COLOURS))}
    )  # fmt: skip

    def table(count: int, first: int, *, labelled: bool = True):  # type: ignore[no-untyped-def]
        rows = range(first, first + count)
        images = [picture(list(COLOURS.values())[row % 3], row) for row in rows]
        labels = [row % 3 if labelled else -1 for row in rows]
        return datasets.Dataset.from_dict(
            {"id": list(rows), "photo": images, "kind": labels}, features=features
        )

    splits = {
        "train": table(60, 0),
        "validation": table(30, 300),
        "test": table(9, 900, labelled=False),
    }
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "disk"))
    table(60, 0).to_parquet(str(tmp_path / "all.parquet"))
    return tmp_path


def test_saved_datasets_are_read(saved: Path, loaded: Callable[[str], ClassificationData]) -> None:
    data = loaded(f"hf:{saved / 'disk'}")
    assert data.class_names == ("blue", "green", "red")
    assert [len(data.train), len(data.test)] == [60, 30]  # the test split has no labels
    assert isinstance(data.test, ImageSplit)
    assert data.test.targets.tolist() == [row % 3 for row in range(300, 330)]
    expected = picture(next(iter(COLOURS.values())), 300)
    assert np.array_equal(np.asarray(data.test.pil(0)), np.asarray(expected))
    assert data.notes == ()


def test_a_file_is_split_by_a_fixed_draw(
    saved: Path, loaded: Callable[[str], ClassificationData]
) -> None:
    data = loaded(f"hf:{saved / 'all.parquet'},test=0.25,seed=4")
    assert data.test.targets.bincount().tolist() == [5, 5, 5]
    again = loaded(f"hf:{saved / 'all.parquet'},test=0.25,seed=4")
    assert data.test.digest == again.test.digest
    assert data.test.digest != loaded(f"hf:{saved / 'all.parquet'},test=0.25").test.digest


def test_columns_may_be_named(saved: Path, loaded: Callable[[str], ClassificationData]) -> None:
    data = loaded(f"hf:{saved / 'disk'},image=photo,label=kind,split=validation")
    assert len(data.test) == 30
    with pytest.raises(BobError, match="no column 'colour'; there is 'id', 'photo', 'kind'"):
        loaded(f"hf:{saved / 'disk'},label=colour")
    with pytest.raises(BobError, match="9 of 9 rows of split 'test' have no label"):
        loaded(f"hf:{saved / 'disk'},split=test")
    with pytest.raises(BobError, match="no split 'dev' to score on; there is 'train', 'val"):
        loaded(f"hf:{saved / 'disk'},split=dev")


def test_leakage_in_tables_is_counted(
    saved: Path, loaded: Callable[[str], ClassificationData]
) -> None:
    (note,) = loaded(f"hf:{saved / 'disk'},train=validation,split=validation").notes
    assert note.startswith("leakage: 30 of 30 test images are exact copies")


def test_tables_run_and_beat_chance(saved: Path, catalog: Catalog) -> None:
    from bob.references.judge import Gate
    from bob.references.store import ReferenceStore

    result = run_task("knn", f"hf:{saved / 'disk'}", catalog)
    assert result.failure is None
    assert (result.classes, result.test_size) == (3, 30)
    verdict = Gate(ReferenceStore(saved / "references")).judge(result.case, [result])
    assert verdict.status == "no reference"
    assert "beats chance" in verdict.reason


def test_a_hub_out_of_reach_skips_with_the_remedy(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datasets")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    result = run_task("knn", "hf:nobody/nothing_of_this_name", catalog)
    assert result.failure is not None
    assert result.failure.kind == "unavailable"
    assert "save_to_disk" in result.failure.message
    assert "fills" in result.failure.message


def test_without_the_library_the_command_is_told(tmp_path: Path) -> None:
    """In an interpreter where it cannot be found, beside a folder of its name."""
    (tmp_path / "datasets").mkdir()
    code = (
        "import sys\n"
        "from bob.catalog import load_catalog, parse_dataset\n"
        "catalog = load_catalog()\n"
        "sys.path[:] = ['.']\n"
        "sys.path_importer_cache.clear()\n"
        "parse_dataset('hf:some/name', catalog)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=False,
    )  # fmt: skip
    assert "pip install 'battle-of-backbones[hf]'" in done.stderr.splitlines()[-1]
