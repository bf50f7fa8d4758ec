"""One case on several devices: two processes on the CPU that meet through gloo."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bob.backbones import build_backbone
from bob.case import Case, Context, Progress, Result
from bob.catalog import Catalog, load_catalog
from bob.datasets import load_dataset
from bob.detection.data import TrainBatches
from bob.distributed.crew import Crew
from bob.distributed.group import Group, batches_of
from bob.distributed.strategy import make_fabric, meeting
from bob.errors import BobError
from bob.ledger import Ledger
from bob.plan import Plan, Selection
from bob.protocols import PROTOCOLS
from bob.run import run_case
from bob.training.data import train_batches
from bob.training.throttle import Throttle
from tests.detectron2_parts import needs_detectron2
from tests.device_parts import (
    answer,
    normalised_share,
    reached_here_and_there,
    together_on,
)
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

TWO = Context(accelerator="cpu", workers=0, devices=2)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs(tmp_path_factory.mktemp("photos"))


def in_two_processes(work: Callable[[Group], Any]) -> tuple[Any, Any]:
    """What two processes that meet make of the same work."""
    store = meeting(0, 2)
    with closing(Crew(answer, 2, 2, store.port, work)) as crew:
        return together_on(0, 2, store, work), pickle.loads(crew.hear(1))


def own(backbone: str, task: str = "finetune", **recipe: Any) -> Case:
    """A case of the digits with a backbone of these tests."""
    spec = f"tests.{backbone}"
    (case,) = [
        case
        for case in Plan(load_catalog(), Selection(backbones=(spec,))).cases(task)
        if case.dataset.key == "digits"
    ]
    return replace(case, recipe=case.recipe.model_copy(update={"epochs": 2, **recipe}))


def ran(case: Case, how: Context = TWO, emit: Any = None) -> Result:
    result = run_case(case, how, emit)
    assert result.failure is None, result.failure
    assert not multiprocessing.active_children()
    return result


def test_batch_norm_sees_the_shares_as_one_batch() -> None:
    whole = normalised_share(Group())
    for found in in_two_processes(normalised_share):
        torch.testing.assert_close(torch.cat(found["out"]), whole["out"][0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            torch.cat(found["images"]), whole["images"][0], rtol=1e-3, atol=1e-4
        )
        for name in ("loss", "gradients", "buffers"):
            torch.testing.assert_close(found[name], whole[name], rtol=1e-4, atol=1e-3)


def test_a_parameter_that_one_process_reaches_gets_its_gradient_everywhere() -> None:
    for both, last, none in in_two_processes(reached_here_and_there):
        assert both.tolist() == [3.0, 3.0]
        assert last.tolist() == [5.0, 5.0]
        assert none is None


def test_batches_that_cannot_be_shared_are_named_with_what_can() -> None:
    with pytest.raises(
        BobError, match=r"batches of 12 images, which 5 .* --devices=1 or 2 or 3 or"
    ):
        Group(0, 5).check(12, of="The recipe")
    with pytest.raises(BobError, match=r"mixes images in pairs, .* --devices=1 or 3\."):
        Group(0, 4).check(6, of="The recipe", pairs=True)
    Group(0, 4).check(12, of="The recipe")


def test_batches_are_shared_in_their_order(photos: Path, catalog: Catalog) -> None:
    case = own("device_parts:wide")
    backbone, data = build_backbone(case.backbone, image_size=32), load_dataset(case.dataset)

    def labels(recipe: Any, split: Any, group: Group) -> torch.Tensor:
        batches = train_batches(
            split, recipe, backbone, device=torch.device("cpu"), workers=0, seed=3, group=group
        )
        return torch.stack([targets for _, targets in islice(batches, 3)])

    for recipe, split in (
        (case.recipe, data.train),
        (
            case_of("finetune", photos, **AUGMENTED).recipe,
            load_dataset(case_of("knn", photos).dataset).train,
        ),
    ):
        whole = labels(recipe, split, Group())
        shares = [labels(recipe, split, Group(rank, 2)) for rank in range(2)]
        assert torch.equal(torch.cat(shares, dim=1), whole)

    scenes = detection_case(catalog, "detection", batch_size=4)
    train = load_dataset(scenes.dataset).train

    def boxes(group: Group) -> list[Any]:
        made = TrainBatches(train, scenes.recipe, workers=0, seed=3, group=group)
        return [[target.boxes.tolist() for target in targets] for _, targets in islice(made, 5)]

    shares = [boxes(Group(rank, 2)) for rank in range(2)]
    assert [first + second for first, second in zip(*shares, strict=True)] == boxes(Group())
    assert batches_of(range(5), 2, rank=1, ranks=2) == [range(2, 4)]


def test_training_is_that_of_one_device_where_nothing_is_drawn() -> None:
    case = own("device_parts:wide")
    alone, both = ran(case, replace(TWO, devices=1)), ran(case)
    for before, after in zip(alone.history, both.history, strict=True):
        assert after["train_loss"] == pytest.approx(before["train_loss"], rel=1e-3)
        assert after["test_loss"] == pytest.approx(before["test_loss"], rel=1e-2)
    assert both.metrics["top1"] == pytest.approx(alone.metrics["top1"], abs=0.01)
    assert both.environment["devices"] == "2"
    assert "devices" not in alone.environment
    assert facts(ran(case)) == facts(both)


@pytest.mark.parametrize("task", ["finetune", "finetune_multilabel", "low_shot_finetune"])
def test_augmented_photographs(photos: Path, task: str) -> None:
    settings = AUGMENTED if task == "finetune" else {"epochs": 2, "batch_size": 24}
    if task == "low_shot_finetune":
        settings = {"epochs": 2, "batch_size": 12, "fractions": (0.4,), "draws": 2}
    case = case_of(task, photos, **settings)
    result = ran(case, replace(TWO, workers=2 if task == "finetune" else 0))
    alone = ran(case, replace(TWO, devices=1))
    assert result.metrics.keys() - {"images_per_second"} == alone.metrics.keys() - {
        "images_per_second"
    }
    assert [t for t in result.remarks if "cannot be read" in t] == [
        t for t in alone.remarks if "cannot be read" in t
    ]


@pytest.mark.parametrize("task", ["knn", "linear_probe", "linear_probe_paper", "retrieval"])
def test_features_are_those_of_one_device_row_for_row(
    photos: Path, tmp_path: Path, task: str
) -> None:
    case = case_of(task, photos) if task != "retrieval" else None
    if case is None:
        case = Plan(load_catalog(), Selection(backbones=("resnet_micro_random",))).cases(task)[0]
    if task == "linear_probe_paper":
        case = replace(case, recipe=case.recipe.model_copy(update={"epochs": 2}))
    on_one, on_three = tmp_path / "one", tmp_path / "three"
    alone = ran(case, replace(TWO, devices=1, features=str(on_one)))
    several = ran(case, replace(TWO, devices=3, features=str(on_three)))
    assert several.metrics["images_extracted"] == alone.metrics["images_extracted"]
    stored = sorted(path.relative_to(on_one) for path in on_one.rglob("*.npy"))
    assert stored
    for path in stored:
        assert np.array_equal(np.load(on_one / path), np.load(on_three / path)), path
    assert facts(several) == facts(alone)


def test_a_share_that_does_not_fit_has_all_processes_begin_anew() -> None:
    told: list[Progress] = []
    case = own("small_devices:narrow", batch_size=64)
    result = ran(case, emit=told.append)
    assert result.metrics["micro_batches"] == 2  # shares of 32, of which 20 fit
    assert sum(progress.phase == "loaded" for progress in told) == 2
    assert facts(ran(case)) == facts(result)


@pytest.mark.parametrize(
    ("backbone", "kind", "words"),
    [
        ("killed", "exit", r"The process of device 2 of 2 was ended by SIGKILL\. Memory may have"),
        ("raises", "error", "ValueError: the second device has no heart for it"),
        ("unloadable", "backbone", "no second copy"),
    ],
)
def test_what_befalls_one_process_is_the_cases_failure(
    backbone: str, kind: str, words: str
) -> None:
    begun = time.monotonic()
    result = run_case(own(f"device_parts:{backbone}"), TWO)
    assert result.failure is not None
    assert result.failure.kind == kind, result.failure
    assert re.search(words, result.failure.message), result.failure
    assert not multiprocessing.active_children()
    assert time.monotonic() - begun < 60


def test_a_loss_that_is_not_finite_ends_all_processes_alike() -> None:
    case = own("device_parts:wide", lr=1e30, warmup_epochs=0, clip_grad=None)
    result = run_case(case, TWO)
    assert result.failure is not None
    assert result.failure.kind == "nan-loss", result.failure
    tried = grid_of(replace(case, recipe=case.recipe.model_copy(update={"lr": 1e-3})), 1e30, 1e-3)
    found = ran(tried)
    assert [bool(trial.failure) for trial in found.trials] == [True, False]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stopped_case_goes_on_with_every_process_where_it_stood(
    photos: Path, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Throttle, "due", lambda self: True)
    case = case_of("finetune", photos, **AUGMENTED)
    how = context(tmp_path, workers=workers, devices=2)
    stop(case, how, lambda told: (told.phase, told.epoch, told.step) == ("train", 1, 3))
    unbroken = ran(case, replace(TWO, workers=workers))
    assert facts(go_on(case, how)[0]) == facts(unbroken)


def test_a_checkpoint_of_one_device_is_not_taken_up_by_two(
    tiny_case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Throttle, "due", lambda self: True)
    how = context(tmp_path)
    stop(tiny_case, how, lambda told: (told.phase, told.epoch, told.step) == ("train", 1, 1))
    result = ran(tiny_case, replace(how, devices=2, resume=True))
    assert any("is of devices 1 and not 2; the case began anew" in t for t in result.remarks)


@pytest.mark.parametrize(
    "engine", ["torchvision", pytest.param("detectron2", marks=needs_detectron2)]
)
def test_detection(
    catalog: Catalog, tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Throttle, "due", lambda self: True)
    case = detection_case(catalog, "detection", engine, epochs=3, batch_size=4)
    unbroken = ran(case)
    alone = ran(case, replace(TWO, devices=1))
    first, whole = unbroken.history[0]["train_loss"], alone.history[0]["train_loss"]
    assert first == pytest.approx(whole, rel=0.15)  # each process samples its own proposals
    how = context(tmp_path, devices=2)
    stop(case, how, lambda told: (told.phase, told.epoch, told.step) == ("train", 1, 2))
    assert facts(go_on(case, how)[0]) == facts(unbroken)
    assert unbroken.environment["devices"] == "2"


def test_a_case_that_is_interrupted_leaves_no_process() -> None:
    def interrupt(progress: Progress) -> None:
        if progress.phase == "evaluate":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_case(own("device_parts:wide"), TWO, interrupt)
    assert not multiprocessing.active_children()


LAUNCHERS = {
    "Slurm": {"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "4", "SLURM_PROCID": "3",
              "SLURM_JOB_NAME": "bob", "SLURM_LOCALID": "3", "SLURM_NODEID": "0"},
    "torchrun": {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "3", "GROUP_RANK": "0",
                 "TORCHELASTIC_RUN_ID": "bob", "LOCAL_WORLD_SIZE": "4"},
}  # fmt: skip


@pytest.mark.parametrize("launcher", ["none", *LAUNCHERS])
def test_the_tasks_of_a_launcher_are_not_those_of_a_case(
    launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    srun = tmp_path / "srun"
    srun.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for name, value in LAUNCHERS.get(launcher, {}).items():
        monkeypatch.setenv(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fabric = make_fabric("cpu", "32-true")
    assert (fabric.world_size, fabric.global_rank, fabric.device.type) == (1, 0, "cpu")


def test_one_protocol_does_not_spread() -> None:
    assert [name for name, spec in PROTOCOLS.items() if not spec.spreads] == ["eval_released"]


def test_a_session_on_two_devices(pytester: pytest.Pytester, shared_store: str) -> None:
    pytester.makeini("[pytest]\nbob_devices = 2\n")
    words = [
        "--pyargs", "suites", "-q", "-k", "resnet_micro_glyphs and digits",
        "-m", "knn or finetune", "--executor=process", "--accelerator=cpu", "--features=features",
        "--tracking-uri", shared_store,
    ]  # fmt: skip
    done = pytester.runpytest_subprocess(*words, timeout=300)
    done.assert_outcomes(passed=2)
    assert done.ret == pytest.ExitCode.OK
    entries = Ledger(pytester.path / "mlruns" / "ledger").entries()
    found = {entry.result.case.task: entry.result.environment["devices"] for entry in entries}
    assert found == {"knn": "2", "finetune": "2"}
    refused = pytester.runpytest(*words, "--devices=0")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(["*--devices*"])
