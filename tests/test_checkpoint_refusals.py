"""Checkpoints that do not fit, and files that are none: what is said of them."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.checkpoint_parts import HEAD, OURS, State, equal, load, refusal, under, written


class TestRefusals:
    def test_how_far_another_architecture_is(self, tmp_path: Path) -> None:
        state = {key: value for key, value in OURS.items() if not key.startswith("layer4.")}
        state |= {"bn1.weight": torch.ones(5), "layer1.7.weight": torch.ones(2)}
        message = refusal(written(tmp_path, {"model": under("module.net.", state)}))
        missing = sum(
            key.startswith("layer4.") and "num_batches" not in key for key in OURS
        )  # fmt: skip
        found = sum(not key.startswith("layer4.") for key in OURS) - 1
        assert f"under 'model.module.net', the nearest, {found} of its {len(OURS)}" in message
        assert f"{missing} missing keys (layer4.0.conv1.weight, " in message
        assert "1 wrong shape (bn1.weight is (5,), expected (64,))" in message
        assert "1 unknown key (layer1.7.weight)" in message

    def test_more_layers_of_the_same_kind(self, tmp_path: Path) -> None:
        """All that is wanted is in the deeper network too."""
        deeper = {key: value for key, value in OURS.items() if key.startswith("layer4.")}
        state = {**OURS, **{key.replace("layer4.0.", "layer4.1."): deeper[key] for key in deeper}}
        assert "unknown keys (layer4.1.conv1.weight, " in refusal(written(tmp_path, state))
        fifth = {key.replace("layer4.", "layer5."): deeper[key] for key in deeper}
        assert "unknown keys (layer5." in refusal(written(tmp_path, {**OURS, **fifth}))
        token = {"register_tokens": torch.zeros(1, 4, 128)}
        assert "1 unknown key (register_tokens)" in refusal(written(tmp_path, {**OURS, **token}))

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (torch.zeros(64, 3, 7, 7, dtype=torch.int8), "is int8, expected float32"),
            (torch.zeros(64, 3, 7, 7, dtype=torch.complex64), "is complex64, expected float32"),
            (torch.zeros(64, 3, 7, 7).to_sparse(), "is torch.sparse_coo float32, expected float32"),
            (torch.zeros(64, 3, 7, 7, device="meta"), "is a shape without values, expected"),
        ],
    )
    def test_numbers_of_another_kind(self, tmp_path: Path, value: torch.Tensor, words: str) -> None:
        message = refusal(written(tmp_path, {**OURS, "conv1.weight": value}))
        assert f"1 wrong type (conv1.weight {words.replace('torch.', '')}" in message

    @pytest.mark.parametrize("saved", [{}, {"state_dict": {}}, [1, 2], torch.zeros(3), {"a": 1}])
    def test_nothing_in_it(self, tmp_path: Path, saved: Any) -> None:
        assert "holds no tensors under names" in refusal(written(tmp_path, saved))

    def test_empty_safetensors(self, tmp_path: Path) -> None:
        save_file({}, tmp_path / "empty.safetensors")
        assert "holds no tensors under names" in refusal(tmp_path / "empty.safetensors")

    def test_a_module_without_weights(self, tmp_path: Path) -> None:
        message = refusal(written(tmp_path, OURS), nn.Flatten)
        assert "has no weights that saved.pth could be loaded into" in message

    @pytest.mark.parametrize("suffix", ["pth", "safetensors"])
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "is empty"),
            (b"<!DOCTYPE html>\n<html>Sign in</html>", "is a web page, not weights"),
            (b"\n <HTML><body>404</body>", "is a web page, not weights"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "`git lfs pull`"),
            (b"\x1f\x8b\x08\x00" + bytes(99), "is a gzip archive: unpack it"),
            (b"\x89HDF\r\n\x1a\n" + bytes(99), "is an HDF5 file"),
            (b'{"error": "Repository not found"}', "is a JSON or text file, not weights"),
            (b"Access denied", "cannot read"),
            (bytes(4096), "cannot read"),
        ],
    )
    def test_other_files(self, tmp_path: Path, content: bytes, words: str, suffix: str) -> None:
        path = tmp_path / f"w.{suffix}"
        path.write_bytes(content)
        message = refusal(path)
        assert words in message
        assert len(message) < 400

    def test_the_index_of_shards(self, tmp_path: Path) -> None:
        path = tmp_path / "model.safetensors.index.json"
        shards = {"a": "1.safetensors", "b": "2.safetensors"}
        path.write_text(json.dumps({"metadata": {}, "weight_map": shards}))
        message = refusal(path)
        assert "is the index of a checkpoint in 2 files (1.safetensors, 2.safetensors)" in message
        for shard, key in (("1", "a"), ("2", "b")):
            save_file({key: torch.ones(2)}, tmp_path / f"{shard}.safetensors")
        assert os.system(f"cd {tmp_path} && {message.split('joined file: ')[1][:-1]}") == 0
        assert (tmp_path / "joined.safetensors").is_file()

    def test_cut_short(self, tmp_path: Path) -> None:
        path = written(tmp_path, OURS)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        assert f"cut short at {len(whole) // 2:,} bytes" in refusal(path)

    def test_other_zip_archives(self, tmp_path: Path) -> None:
        path = tmp_path / "w.npz"
        np.savez(path, a=np.zeros(3))
        assert "is a zip archive of a.npy, not one that torch.save wrote" in refusal(path)
        with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
            archive.writestr("readme.txt", "hello")
        assert "of readme.txt, not one that torch.save wrote" in refusal(tmp_path / "w.pth")

    def test_a_torchscript_program(self, tmp_path: Path) -> None:
        torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(tmp_path / "w.pt")
        assert "is a TorchScript program" in refusal(tmp_path / "w.pt")


def scaled_by(names: str, *, dtype: torch.dtype, ones: bool = False) -> State:
    """The first convolution divided by its greatest weight, which lies beside it."""
    greatest = OURS["conv1.weight"].abs().max()
    beside = {name: greatest.reshape((1,) if ones else ()).clone() for name in names.split()}
    return {**OURS, "conv1.weight": (OURS["conv1.weight"] / greatest).to(dtype), **beside}


@pytest.mark.parametrize("wrap", ["", "module.backbone."])
@pytest.mark.parametrize(
    ("names", "dtype"),
    [
        ("conv1.weight_scale", torch.float8_e4m3fn),
        ("conv1.weight_scale", torch.float32),
        ("conv1.weight_scale_inv", torch.bfloat16),
        ("conv1.weight_zero_point conv1.weight_scale", torch.float32),
        ("conv1.input_scale", torch.float32),
        ("conv1.weight_scale", torch.int8),
    ],
)
def test_quantised_weights_with_scales_are_refused(
    tmp_path: Path, names: str, dtype: torch.dtype, wrap: str
) -> None:
    path = tmp_path / "saved.safetensors"
    save_file(under(wrap, scaled_by(names, dtype=dtype)), path)
    message = refusal(path)
    assert "holds quantised weights with scales (" in message
    assert all(name in message for name in names.split())
    assert "save it dequantised" in message
    saved = {"model": under(wrap, scaled_by(names, dtype=dtype, ones=True))}
    assert "holds quantised weights with scales (" in refusal(written(tmp_path, saved))


def test_weights_of_eight_bits_alone_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, scaled_by("", dtype=torch.float8_e5m2))
    message = refusal(path)
    assert "1 wrong type (conv1.weight is float8_e5m2, expected float32)" in message
    assert "It holds quantised weights; save it dequantised." in message


def test_scales_of_what_is_not_taken_do_not_matter(tmp_path: Path) -> None:
    """Another dict that is quantised, the scale of logits, and that of a head."""
    others = {"logit_scale": torch.ones(()), **HEAD, "fc.weight_scale": torch.ones(())}
    quantised = scaled_by("conv1.weight_scale", dtype=torch.float32)
    loaded, _ = load(written(tmp_path, {"model": quantised, "net": {**OURS, **others}}))
    assert equal(loaded, OURS)


def as_peft(state: State) -> State:
    bare = {key.replace("conv1.weight", "conv1.base_layer.weight"): state[key] for key in state}
    lora = {f"conv1.lora_{part}.default.weight": torch.ones(2, 3) for part in "AB"}
    return under("base_model.model.", {**bare, **lora})


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        (as_peft(OURS), "It holds LoRA adapters ("),
        ({k: v for k, v in as_peft(OURS).items() if "lora_" in k}, "It holds LoRA adapters ("),
        ({**OURS, "layer1.0.conv1.lora_A": torch.ones(2, 3)}, "merge_and_unload()"),
        ({"_fsdp_wrapped_module._flat_param": torch.ones(99)}, "flat parameters of FSDP"),
        ({"layer1._flat_param": torch.ones(99), "bn1.weight": torch.ones(64)}, "FULL_STATE_DICT"),
        (
            {**OURS, "conv1.weight": torch.ones(9).byte(), "conv1.weight.absmax": torch.ones(9)},
            "It holds quantised weights with scales ('conv1.weight.absmax'); save it dequantised",
        ),
        ({**OURS, "conv1.SCB": torch.ones(64), "conv1.weight": torch.ones(64, 147).char()}, "SCB"),
    ],
)  # fmt: skip
def test_what_kind_of_file_does_not_fit_is_said(tmp_path: Path, saved: State, words: str) -> None:
    message = refusal(written(tmp_path, saved))
    assert words in message
    assert "Name the architecture" not in message
