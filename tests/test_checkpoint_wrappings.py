"""Checkpoints in other people's wrappings: what loads and what is said."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file, save_model
from torch import nn

from bob.backbones.checkpoint import load_checkpoint
from bob.backbones.micro import resnet_micro, vit_micro
from bob.errors import BobError
from tests.checkpoint_parts import (
    HEAD,
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


@pytest.mark.parametrize("name", WRAPPED)
def test_wrappings(tmp_path: Path, name: str) -> None:
    loaded, _ = load(written(tmp_path, WRAPPED[name]))
    if name == "half":
        assert torch.equal(loaded["conv1.weight"], OURS["conv1.weight"].half().float())
    else:
        assert equal(loaded, OURS)


@pytest.mark.parametrize("name", ["torch.compile", "backbone and fc", "net", "projector", "half"])
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_wrappings_in_safetensors(tmp_path: Path, name: str, suffix: str) -> None:
    """Known by its bytes, whatever its name ends in."""
    path = tmp_path / f"saved.{suffix}"
    save_file({key: value.clone() for key, value in WRAPPED[name].items()}, path)
    loaded, _ = load(path)
    assert torch.allclose(loaded["conv1.weight"], OURS["conv1.weight"], atol=1e-3)


def test_bfloat16_and_the_format_before_torch_1_6(tmp_path: Path) -> None:
    state = {key: value.bfloat16() for key, value in OURS.items() if value.is_floating_point()}
    saved = {"args": argparse.Namespace(lr=1.0), "model": under("module.", state)}
    loaded, remarks = load(written(tmp_path, saved, _use_new_zipfile_serialization=False))
    assert torch.equal(loaded["bn1.bias"], OURS["bn1.bias"].bfloat16().float())
    norms = sum(key.endswith("num_batches_tracked") for key in OURS)
    assert f"saved.pth: {norms} batch norms without their counter" in remarks
    assert "left unread: argparse.Namespace" in remarks[-1]


def test_what_was_taken_and_left_out_is_said(tmp_path: Path) -> None:
    assert load(written(tmp_path, OURS))[1] == ()
    assert load(written(tmp_path, {"state_dict": under("module.", OURS)}))[1] == ()
    (remark,) = load(written(tmp_path, WRAPPED["backbone and fc"]))[1]
    count = len(OURS)
    assert remark == (
        f"saved.pth: {count} tensors taken from 'module.backbone', 2 left out ('module.fc.weight', "
        "'module.fc.bias')"
    )
    saved = {"model": {**OURS, **HEAD}, "optimizer": {"momentum": torch.zeros(2)}}
    (remark,) = load(written(tmp_path, saved))[1]
    assert f"{count} tensors taken from 'model', 3 left out ('model.fc.weight'," in remark
    assert "'optimizer.momentum'" in remark


def test_a_classifier_comes_with_its_head(tmp_path: Path) -> None:
    state = fresh(1, lambda: timm.create_model("test_resnet", num_classes=10))
    saved = {"model": under("module.", state), "optimizer": {"x": torch.zeros(2)}}
    module = timm.create_model("test_resnet", num_classes=10)
    (remark,) = load_checkpoint(module, entry_of(written(tmp_path, saved)), classifier=True)
    assert equal(module.state_dict(), state)
    assert "1 left out ('optimizer.x')" in remark
    wider = timm.create_model("test_resnet", num_classes=12)
    with pytest.raises(BobError, match="holds no classifier to evaluate: fc"):
        load_checkpoint(wider, entry_of(written(tmp_path, saved)), classifier=True)


def test_the_decoder_of_a_masked_autoencoder_is_left_out(tmp_path: Path) -> None:
    state = fresh(1, vit_micro)
    decoder = {
        "mask_token": torch.zeros(1, 1, 32), "decoder_pos_embed": torch.zeros(1, 65, 32),
        "decoder_norm.weight": torch.ones(32), "decoder_blocks.0.attn.qkv.weight": torch.ones(9, 3),
    }  # fmt: skip
    loaded, (remark,) = load(written(tmp_path, {"model": {**state, **decoder}}), vit_micro)
    assert equal(loaded, state)
    assert "4 left out ('model.mask_token', " in remark


def test_a_wrapper_takes_what_it_wraps(tmp_path: Path) -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = resnet_micro()

    for saved in (OURS, under("module.", OURS), under("encoder.", OURS)):
        loaded, remarks = load(written(tmp_path, saved), Wrapper)
        assert equal(loaded, under("encoder.", OURS))
        assert not remarks


def test_original_names_within_wrappings_go_through_timm(tmp_path: Path) -> None:
    """ConvNeXt's own release has other keys than timm's, here under a prefix and beside a head."""

    def make() -> nn.Module:
        return timm.create_model("test_convnext", num_classes=0)

    state = fresh(3, make)
    original = {}
    for key, value in state.items():
        for ours, theirs in (
            ("stem.", "downsample_layers.0."), ("blocks.", ""), ("conv_dw", "dwconv"),
            ("mlp.fc", "pwconv"), ("head.norm.", "norm."),
        ):  # fmt: skip
            key = key.replace(ours, theirs)
        if ".downsample." in key:
            stage, rest = key.removeprefix("stages.").split(".downsample.")
            key = f"downsample_layers.{stage}.{rest}"
        original[key] = value
    saved = {"model": {**under("module.", original), "module.head.weight": torch.zeros(10, 64)}}
    loaded, _ = load(written(tmp_path, saved), make)
    assert equal(loaded, state)


def test_positions_of_another_grid_are_resampled_and_said(tmp_path: Path) -> None:
    path = written(
        tmp_path, under("module.", fresh(1, lambda: timm.create_model("test_vit", num_classes=0)))
    )
    make = lambda: timm.create_model("test_vit", num_classes=0, img_size=96)  # noqa: E731
    _, remarks = load(path, make)
    assert remarks == ("saved.pth: resampled pos_embed (1, 101, 64) to (1, 37, 64)",)


class Tied(nn.Module):
    """Two names of one layer, as of a decoder whose table is the encoder's."""

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.table = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        if tied:
            self.table = self.encoder


def test_tied_weights_are_saved_once(tmp_path: Path) -> None:
    saved = Tied()
    save_model(saved, str(path := tmp_path / "tied.safetensors"))
    kept = load_file(path).keys()
    assert 0 < len(kept) < len(saved.state_dict())
    loaded, remarks = load(path, Tied)
    assert equal(loaded, saved.state_dict())
    assert remarks == ()
    missing = len(kept) - 1  # one counter is not asked for
    assert f"{missing} missing keys (" in refusal(path, lambda: Tied(tied=False))


def test_of_tied_weights_one_must_be_there(tmp_path: Path) -> None:
    state = {key: value for key, value in Tied().state_dict().items() if "0.weight" not in key}
    message = refusal(written(tmp_path, state), Tied)
    assert "2 missing keys (encoder.0.weight, table.0.weight)" in message


@pytest.mark.parametrize("name", ["list", "tuple", "list in dict", "arrays", "arrays of Fortran"])
def test_lists_of_state_dicts_and_arrays_load(tmp_path: Path, name: str) -> None:
    arrays = {key: value.numpy() for key, value in OURS.items()}
    saved = {
        "list": [OURS],
        "tuple": (OURS, {"epoch": 1, "optimizer": {"param_groups": [{"lr": 0.1}]}}),
        "list in dict": {"models": [fresh(1, vit_micro), OURS]},
        "arrays": {"model": {**arrays, "bn1.weight": arrays["bn1.weight"].astype(">f4")}},
        "arrays of Fortran": {key: value.copy(order="F") for key, value in arrays.items()},
    }[name]
    loaded, remarks = load(written(tmp_path, saved))
    assert equal(loaded, OURS)
    assert "numpy" not in " ".join(remarks)
