"""Checkpoints in other people's wrappings: what loads, what is said, what is refused."""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import datetime
import enum
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file, save_model
from torch import nn

from bob.backbones import build_backbone
from bob.backbones.checkpoint import load_checkpoint
from bob.backbones.micro import resnet_micro, vit_micro
from bob.case import Case, Context
from bob.catalog import BackboneEntry, Catalog, Weights, parse_backbone
from bob.errors import BobError
from bob.run import run_case

State = dict[str, torch.Tensor]


def fresh(seed: int, make: Callable[[], nn.Module] = resnet_micro) -> State:
    torch.manual_seed(seed)
    return {key: value.clone() for key, value in make().state_dict().items()}


def under(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


OURS, OTHER = fresh(1), fresh(2)
HEAD = {"fc.weight": torch.zeros(10, 128), "fc.bias": torch.zeros(10)}
PROJECTOR = {"projector.0.weight": torch.zeros(8, 128), "projector.1.norm.weight": torch.ones(8)}


def entry_of(path: Path, **fields: Any) -> BackboneEntry:
    base = {"key": "mine", "family": "x", "source": "bob.backbones.micro:resnet_micro"}
    weights = Weights(file=str(path))
    return BackboneEntry.model_validate({**base, "weights": weights, **fields})


def written(folder: Path, saved: Any, **options: Any) -> Path:
    path = folder / "saved.pth"
    torch.save(saved, path, **options)
    return path


def load(
    path: Path, make: Callable[[], nn.Module] = resnet_micro, **fields: Any
) -> tuple[State, tuple[str, ...]]:
    """The module's tensors after loading; one that kept its own value would show as NaN."""
    module = make()
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.fill_(float("nan"))
    remarks = load_checkpoint(module, entry_of(path, **fields))
    return module.state_dict(), remarks


def refusal(path: Path, make: Callable[[], nn.Module] = resnet_micro, **fields: Any) -> str:
    module = make()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(BobError) as caught:
        load_checkpoint(module, entry_of(path, **fields))
    assert caught.value.kind == "weights"
    assert equal(module.state_dict(), before)  # never in part
    return str(caught.value)


def equal(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(value, second[key].to(value.dtype)) for key, value in first.items()
    )


WRAPPED: dict[str, Any] = {
    "torch.compile": under("_orig_mod.", OURS),
    "compiled in DDP": under("module._orig_mod.", OURS),
    "DDP in compiled": under("_orig_mod.module.", OURS),
    "compiled by block": {key.replace("layer1.", "layer1._orig_mod."): OURS[key] for key in OURS},
    "FSDP": {key.replace("layer2.0.", "layer2._fsdp_wrapped_module.0."): OURS[key] for key in OURS},
    "backbone and fc": {**under("module.backbone.", OURS), **under("module.", HEAD)},
    "module.model": under("module.model.", OURS),
    "model.backbone": under("model.backbone.", OURS),
    "net": under("net.", OURS),
    "model in state_dict": {"model": {"state_dict": OURS}},
    "dict net": {"net": OURS},
    "net in state_dict": {"state_dict": under("net.", OURS), "epoch": 3},
    "deep": {"a": {"b": {"c": under("x.y.z.module.", OURS)}}},
    "projector": {**OURS, **PROJECTOR},
    "projector beside": {**under("backbone.", OURS), **PROJECTOR},
    "MoCo": {
        "state_dict": {
            **under("module.encoder_q.", {**OURS, **HEAD}),
            **under("module.encoder_k.", {**OTHER, **HEAD}),
            "module.queue": torch.zeros(128, 16), "module.queue_ptr": torch.zeros(1),
        }
    },
    "DINO": {
        "student": under("module.backbone.", OTHER), "teacher": under("backbone.", OURS), "epoch": 1
    },
    "Lightning": {
        "state_dict": {**under("model.", OURS), "loss.weight": torch.ones(10)},
        "pytorch-lightning_version": "2.5", "callbacks": {}, "loops": {"fit": [1]},
    },
    "EMA": {"model": OURS, "model_ema": OTHER},
    "raw and averaged": {"state_dict": OURS, "state_dict_ema": under("module.", OTHER)},
    "optimizer": {
        "model": OURS,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
    },
    "half": {key: value.half() if value.ndim else value for key, value in OURS.items()},
    "profiled": {**OURS, "total_ops": torch.zeros(1), "layer1.total_ops": torch.zeros(1)},
}  # fmt: skip


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


class Mode(enum.Enum):
    TRAIN = 1


class Settings(dict):  # type: ignore[type-arg]
    """As yacs and EasyDict are."""


class Names(list):  # type: ignore[type-arg]
    pass


@dataclasses.dataclass
class Recipe:
    lr: float = 0.1

    class Inner:
        pass


OBJECTS: dict[str, Callable[[], Any]] = {
    "Namespace": lambda: argparse.Namespace(lr=0.1, nested=argparse.Namespace(a=1)),
    "NumPy": lambda: [np.float64(0.5), np.arange(3.0), np.random.get_state()],
    "paths": lambda: [Path("a/b"), {Path("c"): Path("d")}],
    "dataclass": Recipe,
    "class": lambda: Recipe,
    "class within a class": Recipe.Inner,
    "enum": lambda: {Mode.TRAIN: Mode.TRAIN},
    "datetime": lambda: [datetime.datetime.now(datetime.UTC), datetime.timedelta(1)],
    "dict subclass": lambda: Settings(a=1, b=Settings(c=[2])),
    "list subclass": lambda: Names(["a", "b"]),
    "defaultdict": lambda: collections.defaultdict(dict, {"state": collections.defaultdict(list)}),
    "collections": lambda: [collections.Counter("aab"), collections.OrderedDict(a=1),
                            collections.deque([1]), frozenset({1}), {2}, 1j, b"bytes", 10**30],
    "generator": lambda: torch.Generator().get_state(),
    "optimizer": lambda: torch.optim.AdamW(resnet_micro().parameters()).state_dict(),
    "scheduler": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(
        torch.optim.SGD(nn.Linear(1, 1).parameters()), 3).state_dict(),
    "module": lambda: nn.Linear(2, 2),
    "torch version": lambda: torch.__version__,
    "exception": lambda: ValueError("x"),
}  # fmt: skip


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", OBJECTS)
def test_objects_beside_the_tensors(tmp_path: Path, name: str, legacy: bool) -> None:
    saved = {"extra": OBJECTS[name](), "state_dict": OURS, "more": [OBJECTS[name]()]}
    path = written(tmp_path, saved, _use_new_zipfile_serialization=not legacy)
    if name == "module" and legacy:  # which asks for the source of its classes
        assert "holds objects (torch.nn.modules.linear.Linear)" in refusal(path)
    else:
        assert equal(load(path)[0], OURS)


def test_omegaconf_beside_the_tensors(tmp_path: Path) -> None:
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create({"model": {"depth": [1, 2]}})
    loaded, remarks = load(written(tmp_path, {"config": config, "state_dict": OURS}))
    assert equal(loaded, OURS)
    assert "omegaconf.base.ContainerMetadata" in remarks[-1]


def test_weights_within_a_mapping_of_another_class(tmp_path: Path) -> None:
    assert equal(load(written(tmp_path, Settings(state=Settings(OURS))))[0], OURS)


@pytest.mark.parametrize("wrap", [lambda module: module, lambda module: {"model": module}])
def test_a_module_pickled_whole_is_read_as_data(
    tmp_path: Path, wrap: Callable[[nn.Module], Any]
) -> None:
    module = resnet_micro()
    module.load_state_dict(OURS)
    loaded, remarks = load(written(tmp_path, wrap(module)))
    assert equal(loaded, OURS)
    assert "left unread: " in remarks[-1]


class Payload:
    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("function", ["os.system", "eval", "exec", "touch", "load"])
def test_code_never_runs(tmp_path: Path, function: str, legacy: bool) -> None:
    target = tmp_path / "ran"
    inner = io.BytesIO()
    torch.save(Payload(os.system, f"touch {target}"), inner)
    payload = {
        "os.system": Payload(os.system, f"touch {target}"),
        "eval": Payload(eval, f"open({str(target)!r}, 'w')"),
        "exec": Payload(exec, f"open({str(target)!r}, 'w')"),
        "touch": Payload(Path.touch, target),
        "load": Payload(torch.storage._load_from_bytes, inner.getvalue()),
    }[function]
    path = written(
        tmp_path, {"extra": payload, "model": OURS}, _use_new_zipfile_serialization=not legacy
    )
    if function == "touch":  # a method of a class like any other: a stand-in takes its place
        assert equal(load(path)[0], OURS)
    else:
        message = refusal(path)
        assert "would run code" in message
        assert "a checkpoint is input, not code" in message
        assert "python -c" not in message
    assert not target.exists()


def test_what_cannot_be_set_aside_names_class_and_command(tmp_path: Path) -> None:
    path = written(tmp_path, {"args": argparse.Namespace(), "model": OURS}, pickle_protocol=4)
    message = refusal(path)
    assert "holds objects (argparse.Namespace)" in message
    command = message.split("where it was made: ")[1][:-1]
    assert os.system(f"cd {tmp_path} && {command}") == 0
    assert equal(load(tmp_path / "saved.safetensors")[0], OURS)


def test_a_plain_pickle_names_the_command(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(pickle.dumps({key: value.numpy() for key, value in OURS.items()}))
    message = refusal(path)
    assert "is a pickle that torch.save did not write" in message
    assert os.system(f"cd {tmp_path} && {message.split('convert it: ')[1][:-1]}") == 0
    assert equal(load(tmp_path / "w.safetensors")[0], OURS)


@cache
def small_files() -> tuple[bytes, ...]:
    state = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}
    saved = {"model": state, "args": argparse.Namespace(lr=0.1), "best": np.float64(1.0)}
    files = []
    for legacy in (False, True):
        stream = io.BytesIO()
        torch.save(saved, stream, _use_new_zipfile_serialization=not legacy)
        files.append(stream.getvalue())
    with zipfile.ZipFile(io.BytesIO(files[0])) as archive:  # without checksums in the way
        pickled = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        files.append(archive.read(pickled))
    from safetensors.torch import save

    return (*files, save(state))


def rezipped(pickled: bytes) -> bytes:
    """The first file with another pickle in it, so that its checksum holds."""
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(small_files()[0])) as old,
        zipfile.ZipFile(stream, "w") as new,
    ):
        for name in old.namelist():
            new.writestr(name, pickled if name.endswith("data.pkl") else old.read(name))
    return stream.getvalue()


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    which=st.integers(0, 3),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8),
    cut=st.none() | st.floats(0, 1),
)
def test_damaged_bytes_never_escape(
    tmp_path: Path, which: int, changes: list[tuple[float, int]], cut: float | None
) -> None:
    """Whatever bytes are changed or missing, it loads or one error of ours says why not."""
    data = bytearray(small_files()[which])
    for place, value in changes:
        data[min(int(place * len(data)), len(data) - 1)] = value
    if cut is not None:
        data = data[: int(cut * len(data))]
    path = tmp_path / "w.pth"
    path.write_bytes(rezipped(bytes(data)) if which == 2 else data)
    module = nn.ModuleDict({"a": nn.Linear(3, 2)})
    with contextlib.suppress(BobError):
        load_checkpoint(module, entry_of(path))


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


class TestTimmsOldNames:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("vit_small_patch16_224_dino", "vit_small_patch16_224.dino"),
            ("tf_efficientnet_b0_ns", "tf_efficientnet_b0.ns_jft_in1k"),
        ],
    )
    def test_are_followed_and_said(self, catalog: Catalog, old: str, new: str) -> None:
        entry = parse_backbone(f"timm:{old},pretrained=false", catalog)
        backbone = build_backbone(entry, image_size=64)
        assert backbone.remarks == (f"timm calls {old} {new} now, which is what ran",)
        config: Any = backbone.module.pretrained_cfg
        assert f"{config['architecture']}.{config['tag']}" == new

    def test_weights_are_those_of_the_new_name(
        self, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(BobError) as caught:
            build_backbone(parse_backbone("timm:convnext_base_in22k", catalog), image_size=64)
        assert caught.value.kind == "unavailable"
        assert "hf download timm/convnext_base.fb_in22k`" in str(caught.value)

    def test_an_old_name_takes_no_tag(self, catalog: Catalog) -> None:
        with pytest.raises(BobError, match=r"write timm:vit_base_patch16_224\.dino"):
            build_backbone(
                parse_backbone("timm:vit_base_patch16_224_dino.x", catalog), image_size=9
            )

    def test_no_weights_leads_to_random_ones_by_that_word(self, catalog: Catalog) -> None:
        bare = next(
            name for name in timm.list_models("vit_*") if not timm.list_pretrained(f"{name}*")
        )
        with pytest.raises(BobError, match="is the model with random weights, untrained"):
            build_backbone(parse_backbone(f"timm:{bare}", catalog), image_size=64)


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
