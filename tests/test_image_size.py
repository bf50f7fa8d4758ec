"""At what size images are fed: the scale's, another one, or each backbone's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bob.backbones import build_backbone
from bob.case import Case
from bob.catalog import Catalog, parse_backbone
from bob.cli import main
from bob.ledger import Ledger
from bob.plan import Plan, Selection
from tests.photos import write_photos

TIMM = "timm:resnet18.a1_in1k"


def case_of(catalog: Catalog, task: str, **selection: Any) -> Case:
    """The first case of a task."""
    return Plan(catalog, Selection(**selection)).cases(task)[0]


@pytest.fixture
def photos(tmp_path: Path) -> str:
    write_photos(tmp_path / "photos", 6)
    return f"folder:{tmp_path / 'photos'}"


def test_another_size_is_another_case(catalog: Catalog) -> None:
    plain = case_of(catalog, "knn", backbones=("swin_micro_glyphs",))
    large = case_of(catalog, "knn", backbones=("swin_micro_glyphs",), image_size=64)
    own = case_of(catalog, "knn", backbones=("swin_micro_glyphs",), image_size="own")
    assert [case.name for case in (plain, large, own)] == [
        "swin_micro_glyphs-digits", "swin_micro_glyphs-digits-64px",
        "swin_micro_glyphs-digits-ownpx",
    ]  # fmt: skip
    assert [case.recipe.input_size for case in (plain, large, own)] == [32, 64, None]
    assert len({case.id for case in (plain, large, own)}) == 3
    assert large.setting == "knn/digits/64px"
    grid = case_of(catalog, "finetune", grid=True, image_size=48)
    assert grid.variant == "grid-48px"
    assert case_of(catalog, "knn", image_size=32) == case_of(catalog, "knn")


def test_the_scales_own_size_has_no_label_and_is_not_told(catalog: Catalog) -> None:
    assert Plan(catalog, Selection()).sizes == ""
    assert Plan(catalog, Selection(image_size=64)).sizes == "images at 64 pixels"
    full = Plan(catalog, Selection(scale="full", image_size=128))
    assert full.sizes == "images at 128 pixels (not in detection, detection_frozen, eval_released)"
    assert Plan(catalog, Selection(image_size="own")).sizes.startswith(
        "images at each backbone's own size (not in detection, "
    )


def test_squares_of_a_detector_follow(catalog: Catalog) -> None:
    case = case_of(catalog, "detection", image_size=96)
    assert case.recipe.model_dump()["image_size"] == 96
    assert case.name.endswith("-96px")
    assert case_of(catalog, "detection", image_size="own") == case_of(catalog, "detection")
    small = Plan(catalog, Selection(image_size=24))
    assert small.cases("detection")[0] == case_of(catalog, "detection")
    assert small.sizes.startswith("images at 24 pixels (not in detection, ")


def test_own_data_are_fed_at_the_own_size_of_a_pretrained_backbone(
    catalog: Catalog, photos: str
) -> None:
    def size(backbone: str, dataset: str = photos, **selection: Any) -> int | None:
        found = case_of(catalog, "knn", backbones=(backbone,), datasets=(dataset,), **selection)
        return found.recipe.input_size

    assert size(TIMM) is None
    assert size(f"{TIMM},pretrained=false") == 32
    assert size("resnet_micro_glyphs") == 32  # which it was made for
    assert size("tests.user_factories:fresh") == 32  # whose own size nobody knows
    assert size(TIMM, "digits") == 32
    assert size(TIMM, image_size=64) == 64
    assert size(TIMM, scale="lite") == 224
    plan = Plan(catalog, Selection(backbones=(TIMM,), datasets=(photos,)))
    assert plan.sizes == f"images at the own size of {TIMM}"
    assert plan.cases("knn")[0].size == ""


def test_far_smaller_images_are_told(catalog: Catalog) -> None:
    entry = catalog.backbone("resnet_micro_glyphs")
    assert not build_backbone(entry, image_size=32).remarks
    large = entry.model_copy(update={"image_size": 224})
    (remark,) = build_backbone(large, image_size=32).remarks
    assert remark.startswith("images are fed at 32 pixels to weights that were made at 224: ")
    assert not build_backbone(large, image_size=64).remarks
    random = catalog.backbone("resnet_micro_random").model_copy(update={"image_size": 224})
    assert not build_backbone(random, image_size=32).remarks


def test_a_backbone_of_one_size_alone_is_told(catalog: Catalog) -> None:
    entry = parse_backbone("tests.user_factories:of_one_size", catalog)
    backbone = build_backbone(entry, image_size=64)
    assert backbone.image_size == 32
    assert "it takes no images of 64 pixels, so that it is fed 32, its own size" in backbone.remarks
    assert not build_backbone(entry, image_size=32).remarks


@pytest.mark.parametrize("text", ["7", "64.5", "-3", "5000", "owned"])
def test_bad_sizes_are_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", f"--image-size={text}"]) == 2
    told = capsys.readouterr().err
    assert f"--image-size {text!r}" in told
    assert "pixels from 8 to 4096, or own" in told


def test_a_session_at_another_size_has_references_of_its_own(
    pytester: pytest.Pytester, shared_store: str
) -> None:
    pytester.makeini("[pytest]\nbob_image_size = 24\n")
    words = [
        "--pyargs", "suites", "-k", "resnet_micro_glyphs and digits", "-m", "knn",
        "--accelerator=cpu", "--features=features", "--tracking-uri", shared_store,
    ]  # fmt: skip

    def run(*options: str, status: int = 0) -> str:
        done = pytester.runpytest(*words, *options)
        assert done.ret == status, done.stdout.str() + done.stderr.str()
        return done.stdout.str()

    measured = run("--bands=new", status=1)
    assert "images at 24 pixels" in measured
    checked = run("--require-bands")
    assert "digits/24px" in checked
    assert "unused references" not in run("--image-size=32")
    (entry, *_) = Ledger(pytester.path / "mlruns" / "ledger").entries()
    assert entry.result.image_size == 24
