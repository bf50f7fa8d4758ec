"""One pass over a split: counted, keyed by all that matters, and safe from bad features."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from bob.backbones import Backbone, build_backbone
from bob.case import Case, Context
from bob.catalog import Catalog
from bob.datasets import ClassificationData, Split
from bob.datasets.images import Files, ImageSplit
from bob.distributed.strategy import make_fabric
from bob.errors import BobError
from bob.features import FeatureSource, View
from bob.features.extract import augmented
from bob.training.image_loader import FEW_IMAGES
from tests.jobs import make_job


@pytest.fixture
def backbone(catalog: Catalog) -> Backbone:
    torch.manual_seed(0)
    return build_backbone(catalog.backbone("resnet_micro_glyphs"), image_size=32)


@pytest.fixture
def split() -> Split:
    images = torch.randint(0, 256, (150, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    return Split(images.to(torch.uint8), torch.zeros(150, dtype=torch.int64))


MakeSource = Callable[..., FeatureSource]


@pytest.fixture
def photographs(tmp_path: Path) -> ImageSplit:
    """Images on disk, enough for loader processes."""
    names = [f"{number:03}.png" for number in range(FEW_IMAGES)]
    for number, name in enumerate(names):
        Image.new("RGB", (32, 32), (number, 2 * number, 0)).save(tmp_path / name)
    return ImageSplit(source=Files(tmp_path, names), targets=torch.zeros(FEW_IMAGES).long())


@pytest.fixture
def source(
    tmp_path: Path, smoke_cases: dict[str, Case], backbone: Backbone, split: Split
) -> MakeSource:
    data = ClassificationData(sha256="", class_names=("only",), train=split, test=split)

    def make(precision: str = "32-true", module: Backbone = backbone) -> FeatureSource:
        return FeatureSource(
            make_job(
                smoke_cases["resnet_micro_glyphs"],
                module,
                data,
                fabric=make_fabric("cpu", precision),
                context=Context(features=str(tmp_path / "store")),
            )
        )

    return make


def count_images(backbone: Backbone) -> list[int]:
    seen: list[int] = []
    backbone.module.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    return seen


def test_one_pass_then_none(source: MakeSource, backbone: Backbone, split: Split) -> None:
    seen = count_images(backbone)
    cold = source()
    features = cold.features(split, "train")
    assert (sum(seen), len(features), cold.extracted, cold.reused) == (150, 150, 150, 0)
    warm = source()
    again = warm.features(split, "train")
    assert (sum(seen), warm.extracted, warm.reused) == (150, 0, 150)
    assert torch.equal(features.tensor(), again.tensor())
    backbone.module.eval()
    from bob.training.data import normalised

    with torch.inference_mode():
        direct = backbone.module(normalised(split.images, backbone))
    assert torch.allclose(features.tensor(), direct, atol=1e-4)


def test_everything_that_changes_features_changes_the_key(
    source: MakeSource, backbone: Backbone, split: Split, smoke_cases: dict[str, Case]
) -> None:
    base = source()._request(split, "train", None)
    requests = [
        source()._request(Split(split.images.flip(0), split.targets), "train", None),
        source("bf16-mixed")._request(split, "train", None),
        source(module=replace(backbone, image_size=64))._request(split, "train", None),
        source(module=replace(backbone, mean=(0.1, 0.2, 0.3)))._request(split, "train", None),
        source(module=replace(backbone, std=(0.1, 0.2, 0.3)))._request(split, "train", None),
        source(module=replace(backbone, weights_digest="x"))._request(split, "train", None),
        source()._request(split, "train", View(0, 0, 0.5, 0.0)),
        source()._request(split, "train", View(0, 1, 0.5, 0.0)),
        source()._request(split, "train", View(1, 0, 0.5, 0.0)),
    ]
    other_source = source()
    case = other_source.job.case
    entry = case.backbone.model_copy(update={"arguments": {"a": 1}})
    other_source.job = replace(other_source.job, case=replace(case, backbone=entry))
    requests.append(other_source._request(split, "train", None))
    keys = [request.key for request in (base, *requests)]
    assert len(set(keys)) == len(keys)
    assert source()._request(Split(split.images, split.targets + 1), "test", None).key == base.key


def test_features_that_are_not_finite_name_the_image(
    source: MakeSource, backbone: Backbone, split: Split
) -> None:
    class Broken(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            features = images.mean(dim=(2, 3))
            features[images.amax(dim=(1, 2, 3)) < -0.9] = torch.nan
            return features

    images = split.images.clone()
    images[133] = 0
    broken = replace(backbone, module=Broken(), num_features=3)
    with pytest.raises(BobError, match=r"image 133 gives NaN or infinite .* --precision 32-true"):
        source(module=broken).features(Split(images, split.targets), "train")


def test_an_empty_split_is_named(source: MakeSource, split: Split) -> None:
    with pytest.raises(BobError, match="its test split holds no images"):
        source().features(Split(split.images[:0], split.targets[:0]), "test")


def test_a_batch_that_does_not_fit_is_halved(
    source: MakeSource, backbone: Backbone, split: Split
) -> None:
    whole = source().features(split, "train").tensor()

    class Small(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if len(images) > 40:
                raise torch.OutOfMemoryError("no room")
            return backbone.module(images)  # type: ignore[no-any-return]

    small = replace(backbone, module=Small(), weights_digest="small")
    assert torch.allclose(source(module=small).features(split, "train").tensor(), whole, atol=1e-4)


def test_views_follow_seed_epoch_and_position_alone(split: Split) -> None:
    view = View(seed=3, epoch=1, crop_scale=0.3, hflip=0.5)
    torch.manual_seed(11)
    whole = augmented(split.images[:20], view, 0, 32)
    drawn = torch.rand(1)
    torch.manual_seed(11)
    assert torch.equal(drawn, torch.rand(1)), "the global stream was left alone"
    parts = [augmented(split.images[a:b], view, a, 32) for a, b in ((0, 7), (7, 20))]
    assert torch.equal(whole, torch.cat(parts))
    assert whole.dtype == torch.uint8
    for changed in (replace(view, seed=4), replace(view, epoch=2)):
        assert not torch.equal(whole, augmented(split.images[:20], changed, 0, 32))
    plain = View(seed=3, epoch=1, crop_scale=1.0, hflip=0.0)
    assert torch.equal(split.images[:20], augmented(split.images[:20], plain, 0, 32))
    flipped = View(seed=3, epoch=1, crop_scale=1.0, hflip=1.0)
    assert torch.equal(split.images[:20].flip(-1), augmented(split.images[:20], flipped, 0, 32))


@pytest.mark.slow
def test_a_full_disk_costs_the_entry_not_the_result(tmp_path: Path) -> None:
    script = """
    import resource, signal, sys
    from pathlib import Path
    import torch
    from bob.backbones import build_backbone
    from bob.case import Context
    from bob.catalog import load_catalog
    from bob.datasets import load_dataset
    from bob.features import FeatureSource
    from bob.job import Job
    from bob.plan import Plan, Selection
    from bob.distributed.strategy import make_fabric

    case = Plan(load_catalog(), Selection(backbones=("resnet_micro_glyphs",))).cases("knn")[0]
    data = load_dataset(case.dataset)
    made = build_backbone(case.backbone, image_size=32)
    source = FeatureSource(Job(
        case=case, recipe=case.recipe, backbone=made, data=data, seed=0,
        fabric=make_fabric("cpu", "auto"), context=Context(features=sys.argv[1]),
        emit=lambda progress: None,
    ))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    features = source.features(data.test, "test")
    assert len(features) == 597 and torch.isfinite(features.tensor()).all()
    print(source.remarks)
    assert not list(Path(sys.argv[1]).glob("??/*")) and not list(Path(sys.argv[1]).glob("tmp/*"))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "could not be stored (File too large)" in done.stdout
    assert "--features" in done.stdout


@pytest.mark.parametrize("view", [None, View(seed=0, epoch=0, crop_scale=0.5, hflip=0.5)])
def test_what_is_drawn_next_does_not_depend_on_what_the_store_holds(
    source: MakeSource, photographs: ImageSplit, view: View | None
) -> None:
    """A loader draws a seed; a head that is made behind it would begin elsewhere."""
    drawn, counts = [], []
    for _ in range(2):
        cold_then_warm = source()
        torch.manual_seed(0)
        cold_then_warm.features(photographs, "test", view=view)
        drawn.append(torch.rand(1).item())
        counts.append(cold_then_warm.extracted)
    assert counts == [FEW_IMAGES, 0]
    torch.manual_seed(0)
    assert drawn == [torch.rand(1).item()] * 2
