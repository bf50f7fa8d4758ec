"""Pictures as they come: wide values, odd endings, damaged metadata, extreme shapes."""

from __future__ import annotations

import io
import re
import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms, PngImagePlugin
from torchvision.transforms import functional

from bob.catalog.class_tree import image_endings
from bob.catalog.dataset_spec import parse_dataset
from bob.catalog.image_folder import read_folder
from bob.catalog.load import load_catalog
from bob.datasets.base import load_dataset
from bob.datasets.decoding import mode_of, opened
from bob.datasets.folder import load
from bob.datasets.images import Files, ImageSplit, fit
from bob.errors import BobError


def folder_of(root: Path, images: dict[str, NDArray[np.generic]], suffix: str) -> Path:
    """A folder of two classes, every image in both splits of each."""
    for name, values in images.items():
        for part in ("train", "test"):
            for label in ("c0", "c1"):
                place = root / part / label / f"{name}{suffix}"
                place.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(place)
    return root


def greys(folder: Path, **options: str) -> tuple[list[list[int]], tuple[str, ...]]:
    """First row of grey values of each train image of the first class, and the notes."""
    data = load(path=str(folder), **options)
    count = len(data.train) // 2
    rows = [np.asarray(data.train.pil(index))[0, :, 0].tolist() for index in range(count)]
    return rows, tuple(note for note in data.notes if not note.startswith("leakage"))


@pytest.mark.parametrize(
    ("bits", "suffix"), [(10, ".png"), (12, ".png"), (12, ".tif"), (14, ".png"), (16, ".tif")]
)
def test_the_range_of_a_dataset_is_one_for_all_its_images(
    tmp_path: Path, bits: int, suffix: str
) -> None:
    top = 2**bits - 1
    dark = np.array([[0, top // 8, top // 4]], dtype=np.uint16).repeat(3, axis=0)
    bright = np.array([[0, top // 2, top]], dtype=np.uint16).repeat(3, axis=0)
    rows, notes = greys(folder_of(tmp_path, {"bright": bright, "dark": dark}, suffix))
    wanted = [[round(value / top * 255) for value in image[0].tolist()] for image in (bright, dark)]
    assert rows == wanted
    (note,) = notes
    assert f"0 to {top}" in note
    assert "range=" in note


@pytest.mark.parametrize(
    ("values", "wanted", "told"),
    [
        ([[0.0, 0.5, 1.0]], [0, 128, 255], "0 to 1 are"),
        ([[0.0, 127.5, 254.0]], [0, 128, 254], "0 to 255 are"),
        ([[0.0, 0.65, 1.3]], [0, 128, 255], "0 to 1.3 are"),
        ([[-1.0, 0.0, 1.0]], [0, 128, 255], "-1 to 1 are"),
        ([[0.0, 500.0, 1000.0]], [0, 128, 255], "0 to 1000 are"),
        ([[0.0, np.nan, 1.0]], [0, 0, 255], "4 values that are NaN or infinite"),
        ([[0.0, np.inf, 1.0]], [0, 0, 255], "4 values that are NaN or infinite"),
    ],
)
def test_floats_are_scaled_by_what_the_dataset_holds(
    tmp_path: Path, values: list[list[float]], wanted: list[int], told: str
) -> None:
    image = np.array(values, dtype=np.float32)
    rows, notes = greys(folder_of(tmp_path, {"only": image}, ".tif"))
    assert rows == [wanted]
    assert any(told in note for note in notes), notes


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".webp"])
def test_the_head_of_a_file_is_believed_and_not_its_ending(tmp_path: Path, suffix: str) -> None:
    image = np.array([[0, 1000, 4095]], dtype=np.uint16)
    folder = folder_of(tmp_path, {"only": image}, ".png")
    for path in folder.rglob("*.png"):
        path.rename(path.with_suffix(suffix))
    rows, notes = greys(folder)
    assert rows == [[0, 62, 255]]
    assert any("0 to 4095" in note for note in notes), notes


def test_one_bright_image_does_not_darken_itself_alone(tmp_path: Path) -> None:
    same = np.array([[0.0, 0.25, 0.5]], dtype=np.float32)
    spoilt = np.array([[0.0, 0.25, 1000.0]], dtype=np.float32)
    rows, _ = greys(folder_of(tmp_path, {"a": same, "b": spoilt}, ".tif"))
    assert rows[0][1] == rows[1][1]


@pytest.mark.parametrize(
    ("spoilt", "suffix", "scale"),
    [(65535, ".png", 4095), (65535, ".tif", 4095), (-9999.0, ".tif", 1.0), (1e30, ".tif", 1.0)],
)
def test_one_value_far_off_is_told_with_a_range_without_it(
    tmp_path: Path, spoilt: float, suffix: str, scale: float
) -> None:
    kind = np.uint16 if scale > 1 else np.float32
    sound = (np.random.default_rng(0).random((64, 64)) * scale).astype(kind)
    flawed = sound.copy()
    flawed[0, 0] = spoilt
    images = {"a": flawed, **{f"b{number}": sound for number in range(3)}}
    folder = folder_of(tmp_path, images, suffix)
    rows, (note,) = greys(folder)
    assert len(set(rows[1])) < 32
    found = re.search(r"99 % of their values fall into (\d+) of the 256 levels; range=(\S+)", note)
    assert found is not None, note
    assert int(found[1]) < 32
    better, (after,) = greys(folder, range=found[2])
    assert len(set(better[1])) > 48  # of 64 random values
    assert "of the 256 levels" not in after


@pytest.mark.parametrize("mark", [-9999.0, 65535.0])
def test_a_border_without_data_is_told_too(tmp_path: Path, mark: float) -> None:
    image = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    image[:8] = mark
    _, (note,) = greys(folder_of(tmp_path, {"only": image}, ".tif"))
    assert f"99 % of their values, but for {mark:g}, fall into 1 of the 256 levels" in note


def test_a_range_that_values_fill_is_not_called_odd(tmp_path: Path) -> None:
    two = np.zeros((64, 64), np.uint16)
    two[:, 32:] = 65535
    spread = np.random.default_rng(0).integers(0, 4096, (64, 64)).astype(np.uint16)
    for name, image in (("two", two), ("spread", spread)):
        _, (note,) = greys(folder_of(tmp_path / name, {"only": image}, ".png"))
        assert "of the 256 levels" not in note
    _, (note,) = greys(tmp_path / "spread", range="5000:9000")
    assert "into 1 of the 256 levels" in note


@pytest.mark.parametrize(("text", "wanted"), [("100", [0, 26, 255]), ("10:110", [0, 0, 255])])
def test_a_range_can_be_chosen(tmp_path: Path, text: str, wanted: list[int]) -> None:
    image = np.array([[0, 10, 1000]], dtype=np.uint16)
    rows, (note,) = greys(folder_of(tmp_path, {"only": image}, ".png"), range=text)
    assert rows == [wanted]
    assert "clipped" in note


@pytest.mark.parametrize("text", ["", "high", "5:1", "1:1", "nan", "0:inf", "a:b:c"])
def test_a_range_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    folder = folder_of(tmp_path, {"only": np.zeros((2, 2), np.uint8)}, ".png")
    with pytest.raises(BobError, match="range="):
        parse_dataset(f"folder:{folder},range={text}", load_catalog())


def test_the_range_is_part_of_what_was_planned(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"only": np.array([[0, 9, 900]], dtype=np.uint16)}, ".png")
    entries = [
        parse_dataset(f"folder:{folder}{option}", load_catalog()) for option in ("", ",range=900")
    ]
    assert entries[0].options != entries[1].options
    first, second = (load_dataset(entry) for entry in entries)
    assert first.train.digest != second.train.digest  # type: ignore[union-attr]


def deep_png(path: Path) -> None:
    """An RGB PNG of 16 bits a channel."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(
            ">I", zlib.crc32(kind + body)
        )  # fmt: skip

    head = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + struct.pack(">6H", *[4095] * 6) for _ in range(2))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )  # fmt: skip


def test_colour_of_16_bits_is_told(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"only": np.zeros((2, 2, 3), np.uint8)}, ".png")
    for path in folder.rglob("*.png"):
        deep_png(path)
    _, notes = greys(folder)
    assert notes[0].startswith("4 images hold 16 bits a channel")
    assert "No value is above 4095 of 65535, so 16 of the 256 levels are left" in notes[0]
    _, notes = greys(folder, range="4095")
    assert notes[1].startswith("range= changes nothing")


def test_a_range_that_changes_nothing_is_told(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"only": np.zeros((2, 2), np.uint8)}, ".png")
    assert greys(folder)[1] == ()
    (note,) = greys(folder, range="5")[1]
    assert note.startswith("range= changes nothing: ")


def test_five_bits_a_channel_are_no_sixteen(tmp_path: Path) -> None:
    """A bitmap of 5, 6 and 5 bits."""
    head = struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 16, 3, 8, 0, 0, 0, 0)
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    body = head + masks + struct.pack("<4H", *[0xF800] * 4)
    path = tmp_path / "a.bmp"
    path.write_bytes(b"BM" + struct.pack("<IHHI", 14 + len(body), 0, 0, 66) + body)
    assert opened(path).getpixel((0, 0)) == (255, 0, 0)
    assert mode_of(path) == "RGB"


def test_every_format_that_pillow_decodes_is_read(tmp_path: Path) -> None:
    image = Image.fromarray(np.full((16, 16, 3), 90, np.uint8))
    written = []
    Image.init()
    for ending, form in sorted(Image.registered_extensions().items()):
        if form not in Image.SAVE or ending not in image_endings():
            continue
        for label in ("c0", "c1"):
            for number in range(2):
                place = tmp_path / label / f"{number}{ending}"
                place.parent.mkdir(exist_ok=True)
                try:
                    image.convert("1" if form in ("XBM", "MSP") else "RGB").save(place)
                except (OSError, ValueError, KeyError):  # a writer of other modes alone
                    place.unlink(missing_ok=True)
                    continue
                written.append(place)
    assert {".avif", ".jp2", ".tga", ".jfif", ".webp"} <= {path.suffix for path in written}
    data = load(path=str(tmp_path))
    assert len(data.train) + len(data.test) == len(written)
    for split in (data.train, data.test):
        for index in range(len(split)):
            assert split.attempt(index)[1] is None


@pytest.mark.parametrize("suffix", [".gif", ".tif", ".webp"])
def test_files_of_several_frames_are_counted(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(np.full((16, 16), grey, np.uint8)) for grey in (0, 255)]
    folder = folder_of(tmp_path, {"one": np.zeros((16, 16), np.uint8)}, suffix)
    assert greys(folder)[1] == ()
    path = folder / "train" / "c0" / f"one{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    rows, (note,) = greys(folder)
    assert set(rows[0]) == {0}
    assert note == "1 file holds several frames or pages, of which the first alone is used"


def test_files_left_out_are_told_by_ending(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"a": np.zeros((2, 2), np.uint8)}, ".png")
    for name in ("x.heic", "y.heic", "z.npy", "Thumbs.db", ".DS_Store"):
        (folder / "train" / "c0" / name).write_bytes(b"")
    (remark,) = read_folder(folder).remarks
    assert remark.endswith("3 files that are no images to Pillow (2 .heic, 1 .npy)")
    assert str(folder / "train") in remark


def broken_exif(path: Path) -> None:
    """A sound JPEG of orientation 6 whose resolution is stored as text."""
    pixels = np.arange(16 * 8 * 3, dtype=np.uint8).reshape(16, 8, 3)
    buffer = io.BytesIO()
    entries = struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<HHII", 0x011A, 2, 8, 38)
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + entries + b"\0\0\0\0" + b"seventy\0"
    Image.fromarray(pixels).save(buffer, "JPEG", exif=b"Exif\0\0" + tiff)
    path.write_bytes(buffer.getvalue())


def test_damaged_exif_leaves_sound_pixels_readable(tmp_path: Path) -> None:
    broken_exif(tmp_path / "phone.jpg")
    split = ImageSplit(source=Files(tmp_path, ["phone.jpg"]), targets=torch.zeros(1).long())
    image, trouble = split.attempt(0)
    assert trouble is not None
    assert trouble.readable
    assert str(tmp_path / "phone.jpg") in trouble.text
    with Image.open(tmp_path / "phone.jpg") as stored:
        assert np.array_equal(np.asarray(image), np.asarray(stored.convert("RGB")))
    split.report(0, trouble)
    (remark,) = split.remarks
    assert remark.startswith("1 image is sound but for")


def png_with_metadata(values: NDArray[np.generic]) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", "hello", zip=True)
    texts.add_itxt("XML:com.adobe.xmp", "<x/>")
    texts.add_text("Author", "nobody")
    texts.add(b"gAMA", struct.pack(">I", 45455))
    buffer = io.BytesIO()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(values).save(
        buffer, "PNG", exif=exif, icc_profile=profile, pnginfo=texts, dpi=(72, 72)
    )
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [b"eXIf", b"iCCP", b"zTXt", b"iTXt", b"tEXt", b"pHYs", b"gAMA"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_chunk_of_png_that_is_no_pixels_may_be_damaged(
    tmp_path: Path, kind: bytes, dtype: type[np.generic]
) -> None:
    values = np.arange(8 * 16).reshape(8, 16).astype(dtype)
    content = bytearray(png_with_metadata(values))
    content[content.index(kind) + 5] ^= 0x55
    (tmp_path / "a.png").write_bytes(content)
    split = ImageSplit(source=Files(tmp_path, ["a.png"]), targets=torch.zeros(1).long())
    _, trouble = split.attempt(0)
    assert trouble is not None
    assert trouble.readable, trouble.text
    assert f"damaged metadata were left out ({kind.decode()})" in trouble.text
    stored = np.asarray(split.source.open(0))
    turned = values if kind == b"eXIf" else np.rot90(values, 3)
    assert np.array_equal(stored, turned)
    assert split.source.mode(0) == ("L" if dtype is np.uint8 else "I;16")


def test_damaged_pixels_stay_unreadable(tmp_path: Path) -> None:
    content = bytearray(png_with_metadata(np.arange(64, dtype=np.uint8).reshape(8, 8)))
    content[content.index(b"IDAT") + 12] ^= 0x55
    (tmp_path / "a.png").write_bytes(content)
    split = ImageSplit(source=Files(tmp_path, ["a.png"]), targets=torch.zeros(1).long())
    _, trouble = split.attempt(0)
    assert trouble is not None
    assert not trouble.readable


def test_damaged_exif_in_avif_leaves_sound_pixels_readable(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "x" * 40
    buffer = io.BytesIO()
    image = Image.fromarray(np.full((16, 24, 3), 90, np.uint8))
    image.save(buffer, "AVIF", exif=exif)
    payload = exif.tobytes().removeprefix(b"Exif\0\0")
    for position in range(8):
        content = bytearray(buffer.getvalue())
        content[content.index(payload) + position] ^= 0x55
        (tmp_path / "a.avif").write_bytes(content)
        split = ImageSplit(source=Files(tmp_path, ["a.avif"]), targets=torch.zeros(1).long())
        shown, trouble = split.attempt(0)
        assert trouble is None or trouble.readable, trouble.text
        assert shown.size == image.size


@pytest.mark.parametrize("shape", [(20_000, 2), (2, 20_000), (60_000, 1)])
def test_extreme_shapes_do_not_cost_gigabytes(shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    image = Image.fromarray(generator.integers(0, 256, (*shape, 3), dtype=np.uint8))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert fit(image, 224, 0.875).shape == (3, 224, 224)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize("shape", [(640, 30), (30, 640)])
@pytest.mark.parametrize("size", [32, 64])
def test_cropping_first_gives_the_same_picture(shape: tuple[int, int], size: int) -> None:
    generator = np.random.default_rng(0)
    small = Image.fromarray(
        generator.integers(0, 256, (*(edge // 10 for edge in shape), 3), np.uint8)
    )
    image = small.resize(shape[::-1], Image.Resampling.BICUBIC)
    edge = int(size / 0.875)
    whole = functional.resize(
        image, [edge], interpolation=functional.InterpolationMode.BICUBIC, antialias=True
    )
    slow = functional.pil_to_tensor(functional.center_crop(whole, [size, size]))
    fast = fit(image, size, 0.875)
    assert (fast.float() - slow.float()).abs().max() <= 1


def test_a_bomb_is_refused_by_its_path(tmp_path: Path) -> None:
    head = b"P5 20000 20000 255\n"
    (tmp_path / "bomb.pgm").write_bytes(head + b"\0" * 1000)
    split = ImageSplit(source=Files(tmp_path, ["bomb.pgm"]), targets=torch.zeros(1).long())
    _, trouble = split.attempt(0)
    assert trouble is not None
    assert not trouble.readable
    assert str(tmp_path / "bomb.pgm") in trouble.text
    assert "DecompressionBomb" in trouble.text
