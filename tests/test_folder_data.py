"""A user's own images: what a folder is read as, what is wrong with it, and real runs on it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bob.catalog import Catalog, parse_dataset
from bob.catalog.image_folder import held_back, read_folder
from bob.datasets import ClassificationData, load_dataset
from bob.errors import BobError
from bob.plan import Plan, Selection
from tests.photos import touch, write_photos


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
    assert [sum(image.label == label for image in first.test) for label in range(3)] == [5, 5, 5]
    assert {image.path for image in (*first.train, *first.test)} == set(names)
    assert not {image.path for image in first.train} & {image.path for image in first.test}


def test_the_split_is_the_one_every_machine_draws() -> None:
    keys = [f"cat/{number}.jpg" for number in range(10)]
    assert held_back(keys, 0.3, 0) == {1, 3, 5}
    assert held_back(keys, 0.3, 7) != held_back(keys, 0.3, 0)
    grown = held_back([*keys, "cat/new.jpg"], 0.3, 0)
    assert len(grown - {10} ^ held_back(keys, 0.3, 0)) <= 1


@pytest.mark.parametrize(("count", "tested"), [(1, 0), (2, 1), (3, 1), (10, 2), (100, 20)])
def test_every_class_keeps_an_image_to_learn_from(count: int, tested: int) -> None:
    assert len(held_back([str(number) for number in range(count)], 0.2, 0)) == tested
    assert len(held_back([str(number) for number in range(count)], 0.99, 0)) == max(0, count - 1)


def test_accents_composed_or_not_are_the_same_names(tmp_path: Path) -> None:
    for form, name in (("composed", "caf\u00e9"), ("decomposed", "cafe\u0301")):
        touch(tmp_path / form, *(f"{name}/{name}{n}.png" for n in range(9)), "tea/1.png")
    first, second = (read_folder(tmp_path / form) for form in ("composed", "decomposed"))
    assert first.sha256 == second.sha256
    assert first.class_names == second.class_names


@pytest.mark.parametrize(
    ("train", "test"),
    [("Training", "Testing"), ("train", "dev"), ("train", "eval"), ("TRAIN", "Evaluation")],
)
def test_other_names_of_splits_are_known(tmp_path: Path, train: str, test: str) -> None:
    touch(tmp_path, *(f"{part}/{kind}/1.png" for part in (train, test) for kind in "ab"), "x/a.png")
    content = read_folder(tmp_path)
    assert content.class_names == ("a", "b")
    assert [image.path for image in content.train] == [f"{train}/a/1.png", f"{train}/b/1.png"]
    assert [image.path for image in content.test] == [f"{test}/a/1.png", f"{test}/b/1.png"]


def test_a_split_of_any_name_can_be_scored_on(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{part}/{kind}/1.png" for part in ("train", "held") for kind in "ab"))
    with pytest.raises(BobError, match=r"'held', 'train' holds the same folders.*split=NAME"):
        read_folder(tmp_path)
    content = read_folder(tmp_path, split="held")
    assert [image.path for image in content.test] == ["held/a/1.png", "held/b/1.png"]


def test_classes_may_be_called_like_splits(tmp_path: Path) -> None:
    kinds = ("training", "testing", "running")
    touch(tmp_path, *(f"{kind}/{n}.png" for kind in kinds for n in range(5)))
    assert read_folder(tmp_path).class_names == ("running", "testing", "training")


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (("images", "masks"), "'images', 'masks' are names of .*into a folder of its own"),
        (("JPEGImages", "Annotations", "SegmentationClass"), "kinds of picture"),
        (("Images/cat", "Images/dog", "labels"), "such as folder:.*/Images"),
        (("images/cat", "images/dog"), "such as folder:.*/images"),
        (("test/a", "test/b", "val/a", "val/b"), "names of splits.*such as folder:.*/test"),
        (("train/images", "train/labels", "test/images", "test/labels"), "train: 'images', 'lab"),
        (("north/a", "north/b", "south/a", "south/b"), "'north', 'south' holds the same folders"),
    ],
)
def test_folders_that_are_no_classes_are_refused(
    tmp_path: Path, folders: tuple[str, ...], words: str
) -> None:
    touch(tmp_path, *(f"{folder}/{n}.png" for folder in folders for n in range(4)))
    with pytest.raises(BobError, match=words):
        read_folder(tmp_path)


def test_folders_inside_classes_are_theirs(tmp_path: Path) -> None:
    touch(tmp_path / "tiny", *(f"{kind}/images/{n}.png" for kind in "abc" for n in range(4)))
    assert read_folder(tmp_path / "tiny").remarks == ()
    places = [f"{kind}/{time}/1.png" for kind in "abc" for time in ("day", "night")]
    touch(tmp_path / "times", *places)
    content = read_folder(tmp_path / "times")
    assert content.class_names == ("a", "b", "c")
    assert any("holds 'day', 'night', which belong to" in text for text in content.remarks)


@pytest.mark.parametrize("test", ["val", "valid", "validation", "test", "Test"])
def test_official_splits_are_kept(tmp_path: Path, test: str) -> None:
    touch(tmp_path, "train/a/1.png", "train/b/deep/er/2.JPG", f"{test}/a/3.png", f"{test}/b/4.tif")
    content = read_folder(tmp_path)
    assert [(image.path, image.label) for image in content.train] == [
        ("train/a/1.png", 0), ("train/b/deep/er/2.JPG", 1),
    ]  # fmt: skip
    assert [image.path for image in content.test] == [f"{test}/a/3.png", f"{test}/b/4.tif"]
    assert content.remarks == ()


def test_of_three_splits_val_is_left_alone(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        touch(tmp_path, f"{part}/a/{part}.png", f"{part}/b/{part}.png")
    content = read_folder(tmp_path)
    assert {Path(image.path).stem for image in content.train} == {"train"}
    assert {Path(image.path).stem for image in content.test} == {"test"}
    assert "'val' beside train/ and test/ is not used" in content.remarks
    validated = read_folder(tmp_path, split="val")
    assert {Path(image.path).stem for image in validated.test} == {"val"}
    assert validated.sha256 != content.sha256


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
    assert {image.path for image in (*content.train, *content.test)} == {
        "a/x y.png", "a/ünï.png", "b\nc/1\n2.png", "b\nc/,=[].png",
    }  # fmt: skip
    (remark,) = content.remarks
    assert remark.endswith("1 file that is no image to Pillow (1 .txt)")


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
    linked = [image.path for image in (*content.train, *content.test) if image.label == 0]
    assert sorted(linked) == ["a/1.png", "a/again/far.png", "a/again/further/away.png"]
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
    assert [image.label for image in content.test] == [0]
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


def test_planning_imports_nothing_heavy(tmp_path: Path) -> None:
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
    assert not loaded & {"torch", "timm", "mlflow", "numpy", "datasets", "scipy"}
    assert f"-folder:{tmp_path.name}" in done.stdout


# ----- the library `datasets` -----
