"""Which of a checkpoint's several states is taken, and how another is chosen."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from bob.backbones import build_backbone
from bob.backbones.micro import vit_micro
from bob.case import Case, Context
from bob.catalog import Catalog, parse_backbone
from bob.errors import BobError
from bob.run import run_case
from tests.checkpoint_parts import (
    OTHER,
    OURS,
    WRAPPED,
    entry_of,
    equal,
    fresh,
    load,
    refusal,
    under,
    written,
)


@pytest.mark.parametrize(
    ("name", "default", "other", "word"),
    [
        ("EMA", "model", "model_ema", "model_ema"),
        ("raw and averaged", "state_dict", "state_dict_ema.module", "state_dict_ema"),
        ("DINO", "teacher.backbone", "student.module.backbone", "student"),
        ("MoCo", "state_dict.module.encoder_q", "state_dict.module.encoder_k", "encoder_k"),
    ],
)
def test_two_that_fit(tmp_path: Path, name: str, default: str, other: str, word: str) -> None:
    """The default and its choice are said, and `state` takes the other."""
    path = written(tmp_path, WRAPPED[name])
    assert (
        f"saved.pth: '{other}' fits as well as '{default}', which is taken by default; "
        f"state={other} chooses"
    ) in load(path)[1]
    for state in (word, other):
        loaded, remarks = load(path, state=state)
        assert equal(loaded, OTHER)
        assert "by default" not in " ".join(remarks)
    near = word[:-1] + "x"
    assert f"Unknown state '{near}'. Did you mean '" in refusal(path, state=near)


def test_two_names_of_the_same_numbers_are_one(tmp_path: Path) -> None:
    copies = {key: value.clone() for key, value in OURS.items()}
    (remark,) = load(written(tmp_path, {"model": OURS, "model_ema": copies}))[1]
    assert "by default" not in remark


def test_a_state_that_does_not_fit_is_held_against_the_module(tmp_path: Path) -> None:
    path = written(tmp_path, {"model": OURS, "other": fresh(1, vit_micro)})
    assert "under 'other', the nearest, 0 of its" in refusal(path, state="other")


def test_a_copy_of_less_precision_is_told_apart(tmp_path: Path) -> None:
    path = written(tmp_path, {"model": WRAPPED["half"], "model_ema": OURS})
    assert "which is taken by default; state=model_ema" in load(path)[1][-1]


class TestThroughTheSuite:
    def test_remarks_reach_the_result(self, tiny_case: Case, tmp_path: Path) -> None:
        path = written(tmp_path, {"model": OURS, "model_ema": OTHER})
        case = dataclasses.replace(tiny_case, backbone=entry_of(path))
        result = run_case(case, Context())
        assert result.failure is None
        assert any("state=model_ema chooses" in remark for remark in result.remarks)

    def test_state_on_the_command_line(self, catalog: Catalog, tmp_path: Path) -> None:
        path = written(tmp_path, {"model": OURS, "model_ema": OTHER})
        source = "bob.backbones.micro:resnet_micro"
        plain = parse_backbone(f"{path},model={source}", catalog)
        averaged = parse_backbone(f"{path},model={source},state=model_ema", catalog)
        assert (plain.key, averaged.key) == ("saved", "saved.model_ema")
        assert "state" not in plain.identity
        assert averaged.identity == {**plain.identity, "state": "model_ema"}
        built = [build_backbone(entry, image_size=32) for entry in (plain, averaged)]
        assert equal(built[1].module.state_dict(), OTHER)
        assert built[0].fingerprint != built[1].fingerprint
        named = parse_backbone(f"resnet_micro_random,checkpoint={path},state=model_ema", catalog)
        assert named.key == "resnet_micro_random,state=model_ema@saved"
        assert named.state == "model_ema"
        for spec in ("timm:test_resnet,state=x", "resnet_micro_random,state=x"):
            with pytest.raises(BobError, match="chooses within a checkpoint, and none is named"):
                parse_backbone(spec, catalog)


NO_WEIGHTS = {
    "grads": {"grads": OTHER},
    "grad": {"grad": under("module.", OTHER)},
    "optimizer.exp_avg": {"optimizer": {"exp_avg": OTHER, "exp_avg_sq": {}}},
    "momentum_buffer": {"momentum_buffer": OTHER},
    "init_state": {"init_state": OTHER},
    "initial": under("initial.", OTHER),
    "delta": {"model": under("delta.", OTHER)},
    "last_optimizer_state": {"last_optimizer_state": {"model": OTHER}},
}


@pytest.mark.parametrize("name", NO_WEIGHTS)
def test_what_is_no_weights_by_its_name_is_not_taken(tmp_path: Path, name: str) -> None:
    """In the shapes of the weights, and taken only where `state` names it."""
    beside: dict[str, Any] = NO_WEIGHTS[name]
    message = refusal(written(tmp_path, beside))
    assert "which by its name holds no trained weights" in message
    (label,) = [word for word in message.split() if word.startswith("state=")]
    assert name in label
    path = written(tmp_path, {**beside, "weights": OURS})
    loaded, remarks = load(path)
    assert equal(loaded, OURS)
    assert "by default" not in " ".join(remarks)
    assert equal(load(path, state=label.removeprefix("state="))[0], OTHER)
    assert equal(load(path, state=name)[0], OTHER)


@pytest.mark.parametrize("usual", ["model", "state_dict", "module", "net", "backbone"])
@pytest.mark.parametrize("unusual", ["base", "a", "swa_model", "ema"])
def test_a_usual_name_goes_first(tmp_path: Path, usual: str, unusual: str) -> None:
    loaded, remarks = load(written(tmp_path, {unusual: OTHER, usual: {"module": OURS}}))
    assert equal(loaded, OURS)
    assert f"state={unusual} chooses" in remarks[-1]
