from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bob.backbones import build_backbone
from bob.case import Case, Context
from bob.catalog import BackboneEntry, Catalog, Weights, parse_backbone
from bob.errors import BobError
from bob.run import run_case


def entry(**fields: object) -> BackboneEntry:
    base = {"key": "mine", "family": "x", "source": "bob.backbones.micro:resnet_micro"}
    return BackboneEntry.model_validate({**base, **fields})


def problem(broken: BackboneEntry) -> BobError:
    with pytest.raises(BobError) as caught:
        build_backbone(broken, image_size=32)
    return caught.value


def weights_of(catalog: Catalog, key: str) -> Path:
    weights = catalog.backbone(key).weights
    assert weights is not None
    return Path(weights.file)


@pytest.mark.parametrize("family", ["swin", "vit", "convnext", "resnet"])
@pytest.mark.parametrize("pretraining", ["random", "glyphs"])
def test_every_micro_backbone_builds(catalog: Catalog, family: str, pretraining: str) -> None:
    backbone = build_backbone(catalog.backbone(f"{family}_micro_{pretraining}"), image_size=32)
    assert backbone.image_size == 32
    with torch.inference_mode():
        features = backbone.module(torch.rand(3, 3, 32, 32))
    assert features.shape == (3, backbone.num_features)
    assert type(backbone.module).__module__.startswith("timm.models.")


def test_pretrained_weights_really_arrive(catalog: Catalog) -> None:
    backbone = build_backbone(catalog.backbone("vit_micro_glyphs"), image_size=32)
    stored = load_file(weights_of(catalog, "vit_micro_glyphs"))
    for name, tensor in backbone.module.state_dict().items():
        assert torch.equal(tensor, stored[name].to(tensor.dtype)), name


def test_random_backbones_follow_the_seed(catalog: Catalog) -> None:
    digests = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        backbone = build_backbone(catalog.backbone("swin_micro_random"), image_size=32)
        digests.append(backbone.weights_digest)
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
def test_timm_names(catalog: Catalog, name: str) -> None:
    backbone = build_backbone(
        parse_backbone(f"timm:{name},pretrained=false", catalog), image_size=32, drop_path=0.1
    )
    assert backbone.image_size == 32
    assert backbone.num_features > 0


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "module_prefix", "with_head"])
def test_usual_checkpoint_forms(catalog: Catalog, tmp_path: Path, wrap: str) -> None:
    state = load_file(weights_of(catalog, "resnet_micro_glyphs"))
    path = tmp_path / "checkpoint.pth"
    saved: dict[str, object] = dict(state)
    if wrap == "state_dict":
        saved = {"epoch": 3, "state_dict": state}
    elif wrap == "module_prefix":
        saved = {f"module.{key}": value for key, value in state.items()}
    elif wrap == "with_head":
        saved = {**state, "fc.weight": torch.zeros(10, 128), "fc.bias": torch.zeros(10)}
    torch.save(saved, path)
    backbone = build_backbone(entry(weights=Weights(file=str(path))), image_size=32)
    assert torch.equal(backbone.module.conv1.weight, state["conv1.weight"].float())
    assert backbone.weights_digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_another_digest_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "swapped.safetensors"
    state = load_file(weights_of(catalog, "resnet_micro_glyphs"))
    save_file({key: torch.zeros_like(value) for key, value in state.items()}, path)
    weights = catalog.backbone("resnet_micro_glyphs").weights
    assert weights is not None
    error = problem(entry(weights=Weights(file=str(path), sha256=weights.sha256)))
    assert error.kind == "weights"
    assert "swapped.safetensors has SHA-256" in str(error)


def test_keys_that_do_not_match_are_named(catalog: Catalog) -> None:
    error = problem(entry(weights=Weights(file=str(weights_of(catalog, "vit_micro_glyphs")))))
    assert error.kind == "weights"
    assert "missing keys (conv1.weight" in str(error)
    assert "unknown keys (" in str(error)


def test_shapes_that_do_not_match_are_named(catalog: Catalog, tmp_path: Path) -> None:
    state = load_file(weights_of(catalog, "resnet_micro_glyphs"))
    state["conv1.weight"] = torch.zeros(8, 3, 7, 7)
    save_file(state, tmp_path / "w.safetensors")
    error = problem(entry(weights=Weights(file=str(tmp_path / "w.safetensors"))))
    assert "conv1.weight is (8, 3, 7, 7), expected (64, 3, 7, 7)" in str(error)


def test_truncated_and_missing_files(catalog: Catalog, tmp_path: Path) -> None:
    whole = weights_of(catalog, "resnet_micro_glyphs").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(whole[:1000])
    assert "cannot read" in str(
        problem(entry(weights=Weights(file=str(tmp_path / "w.safetensors"))))
    )
    assert "no checkpoint file" in str(problem(entry(weights=Weights(file="/nowhere.pth"))))


def test_a_checkpoint_is_input_not_code(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    with (tmp_path / "evil.pth").open("wb") as stream:
        pickle.dump({"state_dict": Payload()}, stream)
    error = problem(entry(weights=Weights(file=str(tmp_path / "evil.pth"))))
    assert error.kind == "weights"
    assert not (tmp_path / "ran").exists()


FACTORIES = """
import torch
from torch import nn

def raises():
    raise RuntimeError("no such depth")

def not_a_module():
    return [1, 2]

def tokens():
    return nn.Sequential(nn.Flatten(2))

def pair():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x
    return Pair()

def nan_features():
    class Nan(nn.Module):
        def forward(self, x):
            return x.mean((2, 3)) * float("nan")
    return Nan()

def wrong_size():
    return nn.Sequential(nn.Flatten(), nn.Linear(10, 4))

def good(width=5):
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(nn.Conv2d(3, width, 8, 8), nn.ReLU(), pool, nn.Flatten())

def explodes():
    class Explodes(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 4)
        def forward(self, x):
            y = self.layer(x.mean((2, 3)))
            return y * float("inf") if self.training else y
    return Explodes()
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"factories_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raises", "raised RuntimeError: no such depth"),
        ("not_a_module", "returned list; expected a torch.nn.Module"),
        ("tokens", "gives no features: two images came out as a tensor of shape (2, 3, 1024)"),
        ("pair", "gives no features: two images came out as tuple"),
        ("nan_features", "values that are not finite"),
        ("wrong_size", "fails on images of 32 x 32 pixels"),
        ("goud", "Did you mean 'good'"),
    ],
)
def test_bad_factories(factories: str, name: str, words: str) -> None:
    assert words in str(problem(entry(source=f"{factories}:{name}")))


def test_good_factory_with_arguments(factories: str) -> None:
    backbone = build_backbone(
        entry(source=f"{factories}:good", arguments={"width": 7}), image_size=32
    )
    assert backbone.num_features == 7
    assert "unexpected keyword" in str(
        problem(entry(source=f"{factories}:good", arguments={"depth": 7}))
    )


def test_nan_loss_is_a_failure_with_a_remedy(tiny_case: Case, factories: str) -> None:
    from dataclasses import replace

    case = replace(tiny_case, backbone=entry(source=f"{factories}:explodes"))
    failure = run_case(case, Context()).failure
    assert failure is not None
    assert failure.kind == "nan-loss"
    assert "training loss became nan in epoch 1 of 2" in failure.message


def test_missing_module_names_where_it_was_looked_for() -> None:
    assert "no module 'nowhere_at_all'" in str(problem(entry(source="nowhere_at_all:make")))


def test_unknown_timm_names_offer_the_nearest() -> None:
    assert "Did you mean" in str(problem(entry(source="timm:convnext_tinny")))
    assert "Did you mean" in str(problem(entry(source="timm:convnext_tiny.fb_in1")))


def test_unreachable_weights_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    error = problem(entry(source="timm:resnet18.a1_in1k"))
    assert error.kind == "unavailable"
    assert "hf download timm/resnet18.a1_in1k" in str(error)
