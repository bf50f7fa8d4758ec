"""Files that data name: regular ones of the dataset's folder, of a bounded size once opened."""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bob.backbones.checkpoint_file import read_checkpoint
from bob.backbones.checkpoint_kind import UnreadableError
from bob.cli.outcomes import outcome_table
from bob.datasets import ClassificationData
from bob.datasets.coco import CocoSplit
from bob.datasets.decoding import opened
from bob.datasets.images import Files, ImageSplit
from bob.datasets.instances import Sample, Target
from bob.detection.data import train_transform
from bob.errors import BobError
from bob.file_digests import UNREADABLE, digests_of_files
from bob.protocols.detection import DetectionRecipe
from bob.regular_files import inside, read_regular
from tests.coco_parts import both, change, content, everywhere, write
from tests.photos import COLOURS, picture, write_photos
from tests.time_limit import within


def odd_files(folder: Path) -> list[Path]:
    """What can stand where an image should: each of them hangs or never ends for who reads it."""
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "linked.png").symlink_to(folder / "pipe.png")
    return sorted(folder.glob("*.png"))


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    odd = odd_files(tmp_path)
    with within(20):
        for path in odd:
            for read in (read_regular, opened):
                with pytest.raises(OSError, match="no regular file"):
                    read(path)
        assert digests_of_files(odd, cache=tmp_path / "d.sqlite") == (UNREADABLE,) * len(odd)
    (tmp_path / "sound").write_bytes(b"yes")
    (tmp_path / "link").symlink_to("sound")
    assert read_regular(tmp_path / "link") == b"yes"


@pytest.mark.parametrize("name", ["../a.png", "/etc/passwd", "x/../../a.png", "..", "a\0.png"])
def test_names_do_not_lead_out_of_their_folder(name: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(OSError, match="leads out of"):
        inside(root, name)
    split = ImageSplit(source=Files(root, [name]), targets=torch.zeros(1))
    image, trouble = split.attempt(0)
    assert image.size == (32, 32)
    assert trouble is not None
    assert "leads out of" in trouble.text
    assert list(split.source.facts()) == [f"{name} "]


def test_links_in_a_dataset_are_followed_wherever_they_lead(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "photos").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "b.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    files = Files(tmp_path / "data", ["photos/a.png", "b.png", "photos/../b.png"])
    assert [files.open(index).getpixel((0, 0)) for index in range(3)] == [(1, 2, 3)] * 3


@pytest.mark.parametrize("name", ["../../secret/a.png", "{outside}/secret/a.png"])
def test_coco_entries_name_images_of_their_folder(tmp_path: Path, name: str) -> None:
    root = tmp_path / "data"
    both(root, content(), content())
    (tmp_path / "secret").mkdir()
    Image.new("RGB", (20, 16)).save(tmp_path / "secret" / "a.png")
    bad = content()
    change("images", 0, "file_name", to=name.format(outside=tmp_path))(bad)
    (root / "annotations" / "instances_val.json").write_text(json.dumps(bad))
    told = everywhere(root)
    assert "image 7: file_name" in told
    assert f"leads out of {root}" in told


def test_coco_entries_may_name_a_folder_beside_and_links(tmp_path: Path) -> None:
    write(tmp_path, content())
    (tmp_path / "shared").mkdir()
    Image.new("RGB", (20, 16), (9, 9, 9)).save(tmp_path / "far.png")
    (tmp_path / "shared" / "b.png").symlink_to(tmp_path / "far.png")
    data = content()
    change("images", 0, "file_name", to="../shared/b.png")(data)
    file = tmp_path / "annotations/instances_train.json"
    file.write_text(json.dumps(data))
    split = CocoSplit.read(file, tmp_path / "train")
    position = split.image_ids.index(7)
    assert split.sample(position).image.float().mean() == 9
    assert split.source_images.open(position).getpixel((0, 0)) == (9, 9, 9)


def test_coco_images_are_looked_at_before_masks_of_their_size_are_made(tmp_path: Path) -> None:
    data = content()
    for image in data["images"]:
        image["height"] = image["width"] = 1_000_000
    # a terabyte a mask; nothing is compared here, as with images past the 256 whose heads are read
    file = write(tmp_path, data)
    split = CocoSplit.read(file, tmp_path / "train")
    with within(20), pytest.raises(BobError, match="pixels high"):
        split.sample(0)


def test_an_endless_outline_is_refused(tmp_path: Path) -> None:
    zigzag = [number for step in range(5000) for number in (step, 999_999 * (step % 2))]
    both(tmp_path, content(), content())
    bad = content()
    change("annotations", 0, "segmentation", to=[zigzag])(bad)
    (tmp_path / "annotations/instances_val.json").write_text(json.dumps(bad))
    with within(20):
        assert "annotation 1: its segmentation cannot be decoded" in everywhere(tmp_path)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes a table of 300 images, one row of which names a file by its path."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")

    def save(path: str) -> str:
        rows: list[dict[str, Any]] = []
        for number in range(300):
            stream = io.BytesIO()
            picture(list(COLOURS.values())[number % 3], number).save(stream, "PNG")
            rows.append({"bytes": stream.getvalue(), "path": None})
        rows[0] = {"bytes": None, "path": path}
        columns = {"image": rows, "label": [number % 3 for number in range(300)]}
        plain = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
        features = datasets.Features(
            {"image": plain, "label": datasets.ClassLabel(names=list(COLOURS))}
        )
        datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(tmp_path / "disk"))
        # of a column of images the library would store what the path names, not the path
        info = tmp_path / "disk" / "dataset_info.json"
        said = json.loads(info.read_text())
        said["features"]["image"] = {"_type": "Image"}
        info.write_text(json.dumps(said))
        return f"hf:{tmp_path / 'disk'}"

    return save


@pytest.mark.parametrize("named", ["outside", "pipe", "zero", "absolute", "relative", "linked"])
def test_rows_name_regular_files_of_their_folder(
    named: str,
    tmp_path: Path,
    table: Callable[[str], str],
    loaded: Callable[[str], ClassificationData],
) -> None:
    disk = tmp_path / "disk"
    picture((200, 10, 10), 5).save(tmp_path / "secret.png")
    path = {
        "outside": "../secret.png", "pipe": str(disk / "pipe"), "zero": "/dev/zero",
        "absolute": str(disk / "a.png"), "relative": "a.png", "linked": "link.png",
    }[named]  # fmt: skip
    spec = table(path)
    os.mkfifo(disk / "pipe")
    picture((200, 10, 10), 5).save(disk / "a.png")
    (disk / "link.png").symlink_to(tmp_path / "secret.png")
    (disk / "pipe").rename(disk / ".pipe")  # what lists the folder shall not stumble over it
    (disk / "pipe").symlink_to(disk / ".pipe")
    with within(60):
        data = loaded(spec)
    assert isinstance(data.train, ImageSplit)
    parts = [part for part in (data.train, data.test) if isinstance(part, ImageSplit)]
    attempts = [part.attempt(row) for part in parts for row in range(len(part))]
    told = [trouble.text for _, trouble in attempts if trouble is not None]
    if named in ("outside", "pipe", "zero"):
        words = "it is a pipe and no regular file" if named == "pipe" else "a file outside of"
        assert len(told) == 1
        assert words in told[0]
    else:
        assert told == []


def test_a_folder_of_linked_images_is_read_by_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: Callable[[str], ClassificationData]
) -> None:
    pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    write_photos(tmp_path / "store", 5)
    for name in COLOURS:
        (tmp_path / "farm" / "train" / name).mkdir(parents=True)
        for file in (tmp_path / "store" / name).iterdir():
            (tmp_path / "farm" / "train" / name / file.name).symlink_to(file)
    data = loaded(f"hf:{tmp_path / 'farm'}")
    parts = [part for part in (data.train, data.test) if isinstance(part, ImageSplit)]
    assert sum(map(len, parts)) == 15
    assert all(part.attempt(row)[1] is None for part in parts for row in range(len(part)))


def recipe(augmentation: str) -> DetectionRecipe:
    return DetectionRecipe(augmentation=augmentation)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1), (2, 3000)])
@pytest.mark.parametrize("augmentation", ["multiscale", "lsj", "none"])
def test_elongated_images_cost_detection_little(augmentation: str, size: tuple[int, int]) -> None:
    target = Target(
        torch.tensor([[0.0, 0.0, float(size[1]), float(size[0])]]), torch.tensor([0]), None
    )
    sample = Sample(torch.zeros((3, *size), dtype=torch.uint8), target, 0)
    transform = train_transform(recipe(augmentation))
    torch.manual_seed(0)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    for _ in range(4):  # either branch of what is drawn
        made = transform(sample)
        assert min(made.image.shape) >= 1
    assert time.perf_counter() - start < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 700_000  # KiB


def png(width: int, height: int, *, between: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    packer = zlib.compressobj(9)
    rows = packer.compress(bytes(2**20)) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + between + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_images_that_would_fill_the_memory_are_unreadable(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png(60_000, 60_000))
    Image.new("1", (60_000, 60_000)).save(tmp_path / "bomb.tiff", compression="group4")
    with (tmp_path / "hole.png").open("wb") as stream:
        stream.truncate(2**40)  # a terabyte of nothing
    names = ["bomb.png", "bomb.tiff", "hole.png"]
    split = ImageSplit(source=Files(tmp_path, names), targets=torch.zeros(3))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with within(30):
        told = [split.attempt(row)[1] for row in range(3)]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000
    assert ["DecompressionBombError" in trouble.text for trouble in told if trouble] == [
        True, True, False,
    ]  # fmt: skip


def test_a_damaged_image_of_many_chunks_takes_no_time_to_give_up(tmp_path: Path) -> None:
    notes = b"".join(struct.pack(">I4sI", 0, b"noTe", number) for number in range(150_000))
    (tmp_path / "a.png").write_bytes(png(30_000_000, 3, between=notes))
    split = ImageSplit(source=Files(tmp_path, ["a.png"]), targets=torch.zeros(1))
    with within(20):
        assert split.attempt(0)[1] is not None


def test_archives_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", bytes(2**28))
    with pytest.raises(UnreadableError, match=r"would unpack to 268,435,456"):
        read_checkpoint(tmp_path / "model.pt")
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "|u1", "fortran_order": False, "shape": (2**45,)}
    )
    with zipfile.ZipFile(tmp_path / "outcomes.npz", "w") as archive:
        archive.writestr("targets.npy", head.getvalue() + bytes(100))
    with pytest.raises(BobError, match="is not a file of outcomes"):
        outcome_table(tmp_path / "outcomes.npz")


def test_a_sound_checkpoint_that_was_zipped_is_still_read(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(4, 4)}, tmp_path / "a.pt")
    assert read_checkpoint(tmp_path / "a.pt").tree["w"].shape == (4, 4)
