"""A case that is stopped goes on where it stood, and gives what it would have given."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bob.case import Case, Progress
from bob.catalog import Catalog
from bob.datasets import scenes
from bob.run import run_case
from bob.training.throttle import Throttle
from tests.detectron2_parts import needs_detectron2
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
from tests.store_parts import hearing


@pytest.fixture(autouse=True)
def every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Throttle, "due", lambda self: True)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def unbroken() -> Callable[..., dict[str, Any]]:
    """Facts of a case that nobody stops."""
    known: dict[Any, dict[str, Any]] = {}

    def facts_of(case: Case, workers: int = 0) -> dict[str, Any]:
        key = case.id, workers
        if key not in known:
            known[key] = facts(run_case(case, context(Path(), workers=workers, checkpoints="")))
        return known[key]

    return facts_of


def at(phase: str, epoch: int = 0, step: int = 0, skip: int = 0) -> Callable[[Progress], bool]:
    """Whether a case stands there, for the so-manieth time."""
    left = [skip]

    def reached(progress: Progress) -> bool:
        if (progress.phase, progress.epoch, progress.step) != (phase, epoch, step):
            return False
        left[0] -= 1
        return left[0] < 0

    return reached


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "where",
    [at("train", 0, 1), at("train", 1, 3), at("evaluate", 1), at("epoch", 1), at("evaluate", 2)],
    ids=["first step", "in an epoch", "behind an epoch", "scored", "before the last score"],
)
def test_finetune(photos: Path, tmp_path: Path, unbroken: Any, where: Any, workers: int) -> None:
    case = case_of("finetune", photos, **AUGMENTED)
    how = context(tmp_path, workers=workers)
    stop(case, how, where)
    result, told = go_on(case, how)
    assert facts(result) == unbroken(case, workers)
    epochs = [progress.epoch for progress in told if progress.phase == "epoch"]
    assert epochs == [0, 1, 2]
    assert sum("cannot be read" in remark for remark in result.remarks) == 1


def test_steps_behind_the_checkpoint_are_done_again(
    photos: Path, tmp_path: Path, unbroken: Any
) -> None:
    case = case_of("finetune", photos, **AUGMENTED)
    how = context(tmp_path / "kept", workers=2)

    def copy_then_stop(progress: Progress) -> bool:
        if (progress.phase, progress.epoch, progress.step) == ("train", 0, 3):
            shutil.copytree(how.checkpoints, tmp_path / "copy")
        return (progress.phase, progress.epoch, progress.step) == ("train", 2, 1)

    stop(case, how, copy_then_stop)
    earlier = context(tmp_path / "copy", workers=2)
    result, told = go_on(case, earlier)
    assert next(progress.step for progress in told if progress.phase == "train") == 4
    assert facts(result) == unbroken(case, 2)


def test_a_case_may_be_stopped_again_and_again(photos: Path, tmp_path: Path, unbroken: Any) -> None:
    case = case_of("finetune", photos, **AUGMENTED)
    how = context(tmp_path, workers=2)
    for epoch, step in ((0, 1), (0, 2), (1, 1), (2, 3)):
        stop(case, context(tmp_path, workers=2, resume=True), at("train", epoch, step))
    result, _ = go_on(case, how)
    assert facts(result) == unbroken(case, 2)


@pytest.mark.parametrize(
    "where", [at("train", 1, 2), at("epoch", 0)], ids=["in an epoch", "behind"]
)
def test_finetune_in_memory(tiny_case: Case, tmp_path: Path, unbroken: Any, where: Any) -> None:
    how = context(tmp_path)
    stop(tiny_case, how, where)
    assert facts(go_on(tiny_case, how)[0]) == unbroken(tiny_case)


def test_finetune_multilabel(photos: Path, tmp_path: Path, unbroken: Any) -> None:
    case = case_of(
        "finetune_multilabel", photos, epochs=2, batch_size=24, warmup_epochs=0, crop_scale=0.5
    )
    how = context(tmp_path)
    stop(case, how, at("train", 1, 2))
    assert facts(go_on(case, how)[0]) == unbroken(case)


@pytest.mark.parametrize(
    "where",
    [at("train", 1, 2, skip=1), at("search", 0, 1), at("train", 1, 1, skip=2)],
    ids=["in the second setting", "behind the first", "in the training behind the search"],
)
def test_a_grid(photos: Path, tmp_path: Path, unbroken: Any, where: Any) -> None:
    short = {**AUGMENTED, "epochs": 2, "rand_augment": None}
    case = grid_of(case_of("finetune", photos, **short), 1e-3, 1e-4)
    how = context(tmp_path)
    stop(case, how, where)
    result, told = go_on(case, how)
    assert facts(result) == unbroken(case)
    assert ("search", 0) not in [(progress.phase, progress.step) for progress in told]


@pytest.mark.parametrize(
    "where",
    [at("train", 1, 1, skip=3), at("evaluate", 1), at("search", 0, 1, skip=1)],
    ids=["in a setting of the second draw", "before its score", "behind its first setting"],
)
def test_low_shot_finetune(photos: Path, tmp_path: Path, unbroken: Any, where: Any) -> None:
    case = case_of(
        "low_shot_finetune", photos, epochs=2, least_updates=4, batch_size=8, fractions=(0.25,),
        draws=2, mixup=0.8, hflip=0.5, warmup_epochs=0,
    )  # fmt: skip
    case = grid_of(case, 1e-3, 1e-4)
    how = context(tmp_path)
    stop(case, how, where)
    assert facts(go_on(case, how)[0]) == unbroken(case)


@pytest.mark.parametrize("where", [at("epoch", 0), at("epoch", 2)], ids=["first", "later"])
def test_linear_probe_paper(photos: Path, tmp_path: Path, where: Any) -> None:
    case = case_of("linear_probe_paper", photos, epochs=4, batch_size=24)
    own = context(tmp_path, checkpoints="", features=str(tmp_path / "whole"))
    how = context(tmp_path, features=str(tmp_path / "stopped"))
    stop(case, how, where)
    result, told = go_on(case, how)
    assert facts(result) == facts(run_case(case, own))
    assert sum(progress.phase == "epoch" for progress in told) == 4


@pytest.mark.parametrize("step", [1, 20], ids=["behind the first", "later"])
def test_linear_probe(photos: Path, tmp_path: Path, unbroken: Any, step: int) -> None:
    case = case_of("linear_probe", photos)
    how = context(tmp_path, features=str(tmp_path / "features"))
    stop(case, how, at("fit", 0, step + 1))
    result, told = go_on(case, how)
    assert facts(result) == unbroken(case)
    assert next(progress.step for progress in told if progress.phase == "fit") == step + 1


@pytest.fixture(scope="module")
def few_scenes() -> Any:
    scenes.load.cache_clear()
    yield
    scenes.load.cache_clear()


@pytest.mark.usefixtures("few_scenes")
@pytest.mark.parametrize(
    ("task", "where"),
    [
        ("detection", at("train", 1, 2)),
        ("detection", at("epoch", 0)),
        ("detection", at("evaluate", 0, 8)),
        ("detection_frozen", at("train", 0, 3)),
        ("ood_detection", at("train", 0, 3)),
    ],
    ids=["in an epoch", "behind an epoch", "trained", "frozen", "shifted"],
)
def test_detection(catalog: Catalog, tmp_path: Path, unbroken: Any, task: str, where: Any) -> None:
    recipe = {"epochs": 2, "augmentation": "lsj", "hflip": 0.5} if task == "detection" else {}
    case = detection_case(catalog, task, **recipe)
    how = context(tmp_path)
    stop(case, how, where)
    assert facts(go_on(case, how)[0]) == unbroken(case)


@pytest.mark.usefixtures("few_scenes")
@pytest.mark.parametrize(
    "where", [at("train", 1, 1), at("epoch", 0)], ids=["in an epoch", "behind"]
)
def test_detection_with_loader_processes(
    catalog: Catalog, tmp_path: Path, unbroken: Any, where: Any
) -> None:
    case = detection_case(catalog, "detection", epochs=3, augmentation="lsj", hflip=0.5)
    how = context(tmp_path, workers=2)
    stop(case, how, where)
    assert facts(go_on(case, how)[0]) == unbroken(case, 2)


@pytest.mark.usefixtures("few_scenes")
def test_a_grid_of_detection(catalog: Catalog, tmp_path: Path, unbroken: Any) -> None:
    case = grid_of(detection_case(catalog, "detection", epochs=1), 1e-3, 2e-3)
    how = context(tmp_path)
    stop(case, how, at("train", 0, 1, skip=1))
    assert facts(go_on(case, how)[0]) == unbroken(case)


@needs_detectron2
@pytest.mark.usefixtures("few_scenes")
@pytest.mark.parametrize(
    "where", [at("train", 1, 2), at("epoch", 0)], ids=["in an epoch", "behind"]
)
def test_detectron2(catalog: Catalog, tmp_path: Path, unbroken: Any, where: Any) -> None:
    case = detection_case(catalog, "detection", "detectron2", epochs=2)
    how = context(tmp_path)
    stop(case, how, where)
    assert facts(go_on(case, how)[0]) == unbroken(case)


def ended(photos: Path, folder: Path, *, minutes: float, workers: int, how: signal.Signals) -> int:
    """Exit status of a process that a signal meets in the second epoch, with all it has started."""
    words = [str(photos), str(folder), str(minutes), str(workers)]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.stopped_cases", *words], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        start_new_session=True, preexec_fn=hearing,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("train 1"):
                os.killpg(process.pid, how)
                break
        process.stdout.read()
    return process.returncode


def test_a_process_that_was_killed(photos: Path, tmp_path: Path, unbroken: Any) -> None:
    status = ended(photos, tmp_path, minutes=0.0, workers=0, how=signal.SIGKILL)
    assert status == -signal.SIGKILL
    case = case_of("finetune", photos, **AUGMENTED)
    result, told = go_on(case, context(tmp_path))
    assert min(progress.epoch for progress in told if progress.phase == "train") == 1
    assert facts(result) == unbroken(case)


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="senders of signals are unknown")
def test_a_job_that_was_told_to_end(photos: Path, tmp_path: Path, unbroken: Any) -> None:
    """SIGTERM meets the case and its loader's processes; nothing had been written until then."""
    status = ended(photos, tmp_path, minutes=5.0, workers=2, how=signal.SIGTERM)
    assert status == 75
    case = case_of("finetune", photos, **AUGMENTED)
    result, told = go_on(case, context(tmp_path, workers=2))
    assert next(progress.step for progress in told if progress.phase == "train") > 2
    assert facts(result) == unbroken(case, 2)
