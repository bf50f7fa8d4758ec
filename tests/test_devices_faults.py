"""What could go wrong without a word when a case runs on several devices."""

from __future__ import annotations

import os
import re
import resource
import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bob.case import Case, Progress
from bob.catalog import Catalog
from bob.features import entry
from bob.run import run_case
from bob.training.throttle import Throttle
from tests.device_faults import ROOM
from tests.stopped_cases import (
    AUGMENTED,
    case_of,
    context,
    detection_case,
    facts,
    go_on,
    grid_of,
    photographs,
    stop,
)
from tests.test_devices import TWO, own, ran

PLAIN = {"rand_augment": None, "color_jitter": 0.0, "crop_scale": 1.0, "hflip": 0.0}


def losses(case: Case, devices: int) -> list[float]:
    """Training loss of every epoch on so many devices."""
    history = ran(case, replace(TWO, devices=devices)).history
    return [values["train_loss"] for values in history]


def test_every_known_label_weighs_the_same(tmp_path: Path) -> None:
    case = case_of("finetune_multilabel", photographs(tmp_path), epochs=2, batch_size=12, **PLAIN)
    dataset = case.dataset.model_copy(update={"loader": "tests.device_faults:some_labels"})
    still = own("device_parts:wide")
    case = replace(case, dataset=dataset, backbone=still.backbone)
    assert losses(case, 2) == pytest.approx(losses(case, 1), rel=1e-3)


@pytest.mark.parametrize("backbone", ["direct", "computed_again", "unusual"])
def test_batch_norm_is_that_of_the_whole_batch(backbone: str) -> None:
    case = own(f"device_faults:{backbone}")
    assert losses(case, 2) == pytest.approx(losses(case, 1), rel=1e-3)


def test_three_devices_smooth_decay_and_clip_alike() -> None:
    case = own(
        "device_parts:wide", batch_size=96, label_smoothing=0.1, clip_grad=0.05, layer_decay=0.7
    )
    assert losses(case, 3) == pytest.approx(losses(case, 1), rel=1e-3)


@pytest.mark.parametrize("backbone", ["own_statistics", "scripted"])
def test_what_is_learnt_from_a_share_alone_is_told(backbone: str) -> None:
    result = ran(own(f"device_faults:{backbone}"))
    assert any("share of each batch alone" in text for text in result.remarks), result.remarks


def test_other_layers_on_each_device_are_refused() -> None:
    result = run_case(own("device_faults:leaves_out"), TWO)
    assert result.failure is not None
    assert result.failure.kind == "devices", result.failure
    assert "another way through its layers" in result.failure.message


@pytest.mark.parametrize("task", ["knn", "finetune"])
def test_a_backbone_that_is_another_in_each_process_is_refused(task: str, tmp_path: Path) -> None:
    result = run_case(own("device_faults:unseeded", task), replace(TWO, features=str(tmp_path)))
    assert result.failure is not None
    assert result.failure.kind == "devices", result.failure
    assert "each process that loads it has another one" in result.failure.message


def test_a_setting_that_diverges_is_left_by_all_devices(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Throttle, "due", lambda self: True)
    case = detection_case(catalog, "detection", epochs=2, batch_size=2, clip_grad=None)
    found = ran(grid_of(case, 1e30, 1e-4))
    assert [bool(trial.failure) for trial in found.trials] == [True, False]


def test_memory_that_runs_out_behind_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Throttle, "due", lambda self: True)
    case = own("device_faults:room", batch_size=64)
    how = context(tmp_path, devices=2)
    stop(case, how, lambda told: (told.phase, told.epoch, told.step) == ("train", 1, 3))
    monkeypatch.setenv(ROOM, "20")
    loaded: list[Progress] = []

    def count(progress: Progress) -> None:
        loaded.extend([progress] * (progress.phase == "loaded"))
        assert len(loaded) < 4

    result = ran(case, replace(how, resume=True), count)
    assert result.metrics["micro_batches"] == 2


@pytest.fixture
def small_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_features_that_cannot_be_stored_are_extracted_again(
    tmp_path: Path, small_files: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "SHARD_BYTES", 2**20)  # the first one is written behind few batches
    case = own("device_faults:rich", "knn")
    result = ran(case, replace(TWO, features=str(tmp_path / "two")))
    assert any("could not be stored" in text for text in result.remarks), result.remarks
    alone = ran(case, replace(TWO, devices=1, features=str(tmp_path / "one")))
    assert facts(result)["outcomes"] == facts(alone)["outcomes"]


@pytest.mark.parametrize(
    ("backbone", "words"), [("ends", r"SystemExit\(3\)"), ("ends_at_once", "status 4")]
)
def test_a_helper_that_ends_is_told(backbone: str, words: str) -> None:
    result = run_case(own(f"device_faults:{backbone}"), TWO)
    assert result.failure is not None
    assert result.failure.kind == "exit", result.failure
    assert re.search(words, result.failure.message)


@pytest.mark.parametrize("task", ["finetune", "low_shot_finetune"])
def test_a_search_goes_on_where_it_was_stopped(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Throttle, "due", lambda self: True)
    settings = {**AUGMENTED, "epochs": 2, "batch_size": 12}
    if task == "low_shot_finetune":
        settings = {
            "epochs": 1,
            "batch_size": 12,
            "fractions": (0.4,),
            "draws": 2,
            "least_updates": 3,
        }
    case = grid_of(case_of(task, photographs(tmp_path / "photos"), **settings), 1e-2, 1e-3)
    searches = 3 if task == "low_shot_finetune" else 1  # in the second draw's search
    told: list[int] = []

    def late(progress: Progress) -> bool:
        told.extend([progress.step] * (progress.phase == "search"))
        return len(told) > searches and progress.phase == "train"

    how = context(tmp_path / "checkpoints", devices=2)
    stop(case, how, late)
    assert facts(go_on(case, how)[0]) == facts(ran(case))


def test_nothing_is_left_behind_in_the_first_process(tmp_path: Path) -> None:
    def held() -> tuple[object, ...]:
        files = len(os.listdir("/proc/self/fd"))
        return files, threading.active_count(), sys.excepthook, dict(os.environ)

    how = replace(TWO, features=str(tmp_path))
    for task in ("knn", "finetune"):
        ran(own("device_parts:wide", task, **({"epochs": 1} if task == "finetune" else {})), how)
    before = held()
    ran(own("device_parts:wide", "finetune", epochs=1, lr=1e-4), how)
    shutil.rmtree(tmp_path)
    ran(own("device_parts:wide", "knn"), how)
    assert held() == before
    assert not torch.distributed.is_initialized()
