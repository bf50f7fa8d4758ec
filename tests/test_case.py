from __future__ import annotations

import pickle

import pytest

from bob.case import Case, Context
from bob.catalog import Catalog
from bob.errors import BobError
from bob.plan import Plan, Selection
from bob.protocols import PROTOCOLS
from bob.protocols.finetune import FinetuneRecipe


def golden_case(catalog: Catalog) -> Case:
    return Case(
        backbone=catalog.backbone("swin_micro_glyphs").model_copy(
            update={"weights": None, "source": "timm:swin_tiny_patch4_window7_224"}
        ),
        task="finetune",
        dataset=catalog.dataset("digits"),
        scale="smoke",
        recipe=FinetuneRecipe(epochs=3, image_size=224),
        seed=7,
    )


def test_golden_id(catalog: Catalog) -> None:
    """A changed value means that recorded runs and references no longer match: if that is meant,
    raise the protocol's version and measure the references anew."""
    case = golden_case(catalog)
    assert (case.id, case.protocol) == ("882842dbf9f1", "c0a168218384")


def test_id_names_what_changes_the_score(catalog: Catalog) -> None:
    from dataclasses import replace

    case = golden_case(catalog)
    other_recipe = replace(case, recipe=FinetuneRecipe(epochs=4))
    other_seed = case.with_seed(8)
    other_weights = replace(case, backbone=catalog.backbone("swin_micro_glyphs"))
    ids = {case.id, other_recipe.id, other_seed.id, other_weights.id}
    assert len(ids) == 4
    assert case.protocol == other_seed.protocol == other_weights.protocol
    assert case.protocol != other_recipe.protocol


def test_id_ignores_what_does_not(catalog: Catalog) -> None:
    from dataclasses import replace

    case = golden_case(catalog)
    renamed = case.backbone.model_copy(update={"key": "x", "note": "y", "scales": ()})
    assert replace(case, backbone=renamed, margins={"top1": 0.5}, reference_seeds=3).id == case.id


def test_records_survive_pickling(smoke_cases: dict[str, Case]) -> None:
    for case in smoke_cases.values():
        again = pickle.loads(pickle.dumps(case))
        assert again == case
        assert again.id == case.id
    assert pickle.loads(pickle.dumps(Context(workers=3))).workers == 3
    error = pickle.loads(pickle.dumps(BobError("no", kind="weights")))
    assert (str(error), error.kind) == ("no", "weights")


def test_plan_is_sorted_and_complete(catalog: Catalog) -> None:
    cases = Plan(catalog, Selection()).all_cases()
    assert len({(case.task, case.name) for case in cases}) == len(cases) == 8 * 12
    assert [case.task for case in cases] == sorted(case.task for case in cases)
    elsewhere = {"eval_released", "finetune_multilabel"}  # nothing at smoke scale to run them on
    for task in PROTOCOLS.keys() - elsewhere:
        names = [case.name for case in cases if case.task == task]
        assert names == sorted(names)
        assert any(name.startswith("swin_micro_glyphs-") for name in names)


def test_family_changes_the_recipe(smoke_cases: dict[str, Case]) -> None:
    swin = smoke_cases["swin_micro_glyphs"].recipe
    resnet = smoke_cases["resnet_micro_glyphs"].recipe
    assert isinstance(swin, FinetuneRecipe)
    assert isinstance(resnet, FinetuneRecipe)
    assert swin.lr != resnet.lr
    assert swin.epochs == resnet.epochs


def test_two_backbones_of_one_name_are_refused(catalog: Catalog) -> None:
    specs = ("timm:test_vit,name=mine", "timm:test_resnet,name=mine")
    with pytest.raises(BobError, match="Two backbones are named 'mine'"):
        Plan(catalog, Selection(backbones=specs))


def test_a_changed_copy_has_an_identity_of_its_own(catalog: Catalog) -> None:
    entry = catalog.backbone("swin_micro_glyphs")
    before = entry.identity
    changed = entry.model_copy(update={"arguments": {"depth": 3}})
    assert changed.identity["arguments"] == {"depth": 3}
    assert entry.identity == before
