"""The script that pretrains the micro backbones, a few updates long."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from bob.backbones import micro
from bob.datasets.glyphs import FACES

NAMES = ("swin_micro", "vit_micro", "convnext_micro", "resnet_micro")
LETTERS = "ABC"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))
    import pretrain_glyphs

    monkeypatch.setattr(pretrain_glyphs, "CHARACTERS", LETTERS)
    monkeypatch.setattr(pretrain_glyphs, "VARIANTS", 1)
    monkeypatch.setattr(pretrain_glyphs, "BATCH", 16)
    monkeypatch.setattr(pretrain_glyphs, "BOTH_BATCH", 4)
    monkeypatch.setattr(pretrain_glyphs, "WARMUP", 2)
    module: ModuleType = pretrain_glyphs
    return module


def test_letter_scenes_know_letter_box_and_ink_of_every_pixel(script: ModuleType) -> None:
    letters = script.Letters(0)
    assert len(letters.labels) == len(LETTERS) * len(FACES)
    scenes = script.draw(6, letters.counts, letters.labels, classes=3, rng=np.random.default_rng(0))
    inside = scenes.labels < 3
    assert inside.any()
    assert scenes.ink.any()
    assert not (scenes.ink & ~inside).any()
    assert (scenes.edges.permute(0, 2, 3, 1)[inside] > 0).all()
    assert (scenes.edges.permute(0, 2, 3, 1)[~inside] == 0).all()
    top, bottom, left, right = scenes.edges.float().unbind(1)
    for height in ((top + bottom)[inside] * 16, (left + right)[inside] * 16):
        assert torch.allclose(height, height.round(), atol=0.1)
        assert height.max() <= 37


@pytest.mark.parametrize("name", NAMES)
def test_a_trunk_reads_letters_as_the_backbone_does(script: ModuleType, name: str) -> None:
    import letter_trunks

    torch.manual_seed(0)
    trunk = letter_trunks.trunk(name)
    trunk.net.eval()
    plain = getattr(micro, name)().eval()
    plain.load_state_dict(trunk.state_dict())
    letters, scenes = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        maps = trunk.maps(scenes)
        off = (trunk.pooled(letters) - plain(letters)).abs().max()
    assert off < (5e-3 if name == "swin_micro" else 1e-5)
    assert [feature_map.shape[-1] for feature_map in maps] == [
        64 // stride for stride in trunk.strides
    ]
    assert [feature_map.shape[1] for feature_map in maps] == list(trunk.channels)


@pytest.mark.parametrize("name", NAMES)
def test_both_phases_of_pretraining_give_weights_of_the_backbone(
    script: ModuleType, name: str
) -> None:
    letters = script.Letters(0)
    scenes = script.draw(8, letters.counts, letters.labels, classes=3, rng=np.random.default_rng(0))
    first, _ = script.pretrain(name, letters, steps=4, seed=0)
    second, accuracy = script.pretrain_on_scenes(name, first, letters, scenes, steps=4, seed=0)
    assert 0 <= accuracy <= 1
    plain = getattr(micro, name)()
    for state in (first, second):
        plain.load_state_dict(state)
    assert any(not torch.equal(first[key], second[key]) for key in first)
