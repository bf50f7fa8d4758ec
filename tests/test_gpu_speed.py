"""The table of published speeds, and what is read off it."""

from __future__ import annotations

import statistics

import pytest

from bob.catalog import Catalog
from bob.cost import DEFAULT_GPU, Speeds, describe, estimate, gpus
from bob.cost.model import ROUGH, TRAIN, UNCERTAINTY
from bob.cost.speed import ArchitectureFacts, activation_bytes
from bob.cost.table import family_of, rows
from bob.errors import BobError
from bob.protocols.finetune import FinetuneRecipe
from tests.cost_parts import VIT, case_of, measured, vit_speed


def test_every_row_of_the_table_is_given_back() -> None:
    for row in measured("infer"):
        facts = ArchitectureFacts(row.architecture, family_of(row.architecture), row.parameters_m)
        speed = Speeds(row.gpu).forward(facts, row.image_size)
        assert speed.images_per_second == row.images_per_second
        assert (speed.basis, speed.rough) == (row.architecture, False)


def test_rows_name_their_source() -> None:
    for row in rows():
        repository, path, commit = row.source.replace(" @ ", " ").split()
        assert "/" in repository
        assert path.endswith((".csv", ".md"))
        assert len(commit) == 40


def test_default_gpu_has_most_measurements() -> None:
    assert next(iter(gpus())) == DEFAULT_GPU


def test_an_update_is_four_forward_passes_within_the_stated_factor() -> None:
    forward = {
        (r.gpu, r.architecture, r.image_size): r.images_per_second for r in measured("infer")
    }
    ratios = [
        forward[row.gpu, row.architecture, row.image_size] / row.images_per_second
        for row in measured("train")
    ]
    assert len(ratios) == 40
    assert statistics.median(ratios) == pytest.approx(TRAIN, rel=0.05)
    assert max(max(ratio / TRAIN, TRAIN / ratio) for ratio in ratios) < UNCERTAINTY


def test_another_resolution_scales_with_pixels() -> None:
    """Every pair of resolutions that was measured, within the documented eleven per cent."""
    for row in measured("infer"):
        others = [
            other for other in measured("infer")
            if (other.gpu, other.architecture) == (row.gpu, row.architecture)
            and other.image_size != row.image_size
        ]  # fmt: skip
        for other in others:
            predicted = other.images_per_second * (other.image_size / row.image_size) ** 2
            assert predicted / row.images_per_second == pytest.approx(1, rel=0.115)
    vit = describe(VIT)
    assert vit is not None
    at_448 = Speeds("RTX 3090").forward(vit, 448)
    assert at_448.images_per_second == pytest.approx(vit_speed("RTX 3090") / 4)
    assert "at 224 px" in at_448.basis


def test_what_the_table_lacks_is_marked() -> None:
    lacking = ArchitectureFacts("swin_huge_unknown", "swin", 400.0)
    speed = Speeds().forward(lacking, 224)
    assert speed.rough
    assert speed.basis.startswith("nearest: swin_base")
    base = next(
        row
        for row in measured("infer")
        if (row.gpu, row.architecture) == (DEFAULT_GPU, "swin_base_patch4_window7_224")
    )
    assert base.images_per_second / 5 < speed.images_per_second < base.images_per_second / 2
    vit = describe(VIT)
    assert vit is not None
    elsewhere = Speeds("a100").forward(vit, 224)  # the table has Hiera only on this one
    assert elsewhere.rough
    assert elsewhere.images_per_second == pytest.approx(vit_speed(), rel=0.1)


def test_memory_of_a_published_training_fills_its_card() -> None:
    for row in measured("train"):
        facts = ArchitectureFacts(row.architecture, family_of(row.architecture), row.parameters_m)
        held = activation_bytes(facts, row.image_size) * row.batch_size
        assert held + 16e6 * row.parameters_m == pytest.approx(24 * 2**30)
    whole, half = (
        estimate(case_of(FinetuneRecipe(batch_size=size)), Speeds()).memory_gib
        for size in (1024, 512)
    )
    assert whole
    assert half
    assert half < whole < 2 * half


def test_parameters_are_counted_without_weights_where_nothing_tells_them() -> None:
    import timm

    found = describe(VIT.model_copy(update={"source": "timm:vgg11.tv_in1k"}))
    assert found is not None
    whole = timm.create_model("vgg11", pretrained=False, num_classes=0)
    assert found.parameters_m * 1e6 == sum(parameter.numel() for parameter in whole.parameters())


def test_parameters_of_micro_backbones(catalog: Catalog) -> None:
    from bob.cost.meta import parameters_m

    for entry in catalog.backbones.values():
        if entry.source.startswith("bob.backbones.micro:"):
            counted = parameters_m(entry)
            assert counted is not None
            if entry.parameters_m is not None:
                assert entry.parameters_m == pytest.approx(counted, abs=0.001)


def test_ranges() -> None:
    assert 1 < UNCERTAINTY < ROUGH


def test_bad_gpu_is_one_error() -> None:
    with pytest.raises(BobError, match="The table has: RTX 4090"):
        Speeds("Voodoo")
