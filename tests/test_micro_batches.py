"""Counts of parts that are kept from case to case, on a device that is too small."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bob.case import Case, Context, Result
from bob.catalog import BackboneEntry, Catalog
from bob.plan import Plan, Selection
from bob.run import run_case
from bob.training import remembered as module
from bob.training.memory import Parts
from bob.training.remembered import Remembered
from tests import small_devices

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BOB_MICRO_BATCHES", str(tmp_path / "counts"))
    monkeypatch.setenv("BOB_FEATURES", str(tmp_path / "features"))
    return tmp_path / "counts"


@pytest.fixture
def case(tiny_case: Case) -> Case:
    entry = BackboneEntry(key="narrow", family="narrow", source="tests.small_devices:narrow")
    return replace(tiny_case, backbone=entry)


def ran(case: Case, **context: Any) -> tuple[Result, list[tuple[bool, int]]]:
    small_devices.refused.clear()
    result = run_case(case, Context(accelerator="cpu", workers=0, **context))
    assert result.failure is None, result.failure
    return result, list(small_devices.refused)


def scores(result: Result) -> dict[str, float]:
    """What must not depend on what was kept: every metric that is no time."""
    told = ("images_per_second", "micro_batches_remembered")
    return {name: value for name, value in result.metrics.items() if name not in told}


def test_the_next_case_starts_where_this_one_ended_up_with_the_same_score(
    folder: Path, case: Case
) -> None:
    first, refused = ran(case)
    assert {training for training, _ in refused} == {True, False}
    assert first.metrics["micro_batches"] > 1
    assert "micro_batches_remembered" not in first.metrics
    again, none = ran(case)
    assert none == []
    assert again.metrics["micro_batches_remembered"] == first.metrics["micro_batches"]
    # batch statistics and dropout are those of the case that had to find it out
    assert scores(again) == scores(first)
    assert again.history == first.history
    other_seed, none = ran(case.with_seed(case.seed + 1))
    assert none == []
    assert other_seed.metrics["micro_batches"] == first.metrics["micro_batches"]


def test_draws_tell_it_too(
    folder: Path, catalog: Catalog, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_devices, "LIMIT", 4)
    plan = Plan(catalog, Selection(scale="smoke"))
    drawn = plan.cases("low_shot_finetune")[0]
    short = drawn.recipe.model_copy(update={"epochs": 1, "draws": 2, "least_updates": 5})
    few = replace(drawn, recipe=short, backbone=case.backbone)
    first, refused = ran(few)
    assert any(training for training, _ in refused)
    again, none = ran(few)
    assert none == []
    assert again.metrics["micro_batches_remembered"] == first.metrics["micro_batches"] > 1
    assert scores(again) == scores(first)


def test_a_case_that_differs_in_what_memory_takes_starts_anew(folder: Path, case: Case) -> None:
    _, refused = ran(case)
    halved = case.recipe.model_copy(update={"batch_size": 32})
    larger = case.recipe.model_copy(update={"image_size": 16})
    other = case.backbone.model_copy(update={"mean": (0.4, 0.4, 0.4)})
    for changed in (
        replace(case, recipe=halved),
        replace(case, recipe=larger),
        replace(case, backbone=other),
    ):
        result, refused = ran(changed)
        assert any(training for training, _ in refused), changed
        assert "micro_batches_remembered" not in result.metrics
    result, _ = ran(case, precision="bf16-mixed")
    assert "micro_batches_remembered" not in result.metrics


@pytest.mark.parametrize(
    "damage",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"count": 4}', b'{"count": "4", "free_bytes": 0}',
        b'{"count": true, "free_bytes": 0}', b'{"count": -4, "free_bytes": 0}',
        b'{"count": 1e9, "free_bytes": 0}', b'{"count": 99999999999, "free_bytes": 0}',
    ],
)  # fmt: skip
def test_what_is_damaged_is_ignored_and_written_anew(folder: Path, damage: bytes) -> None:
    counts = Remembered({"backbone": "b"}, CPU)
    counts.keep(64, 4)
    assert counts.count(64) == 4
    counts.path(64).write_bytes(damage)
    assert counts.count(64) == 1
    counts.keep(64, 8)
    assert counts.count(64) == 8
    assert [path.suffix for path in folder.iterdir()] == [".json"], "nothing half-written is left"


def test_a_cache_that_cannot_be_written_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("BOB_MICRO_BATCHES", str(tmp_path / "file" / "counts"))
    result, refused = ran(case)
    assert refused
    assert result.metrics["micro_batches"] > 1


def test_a_count_of_a_crowded_device_is_not_taken_on_an_empty_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 10 * 2**30
    monkeypatch.setattr(module, "free_bytes", lambda device: free)
    counts = Remembered({"backbone": "b"}, CPU)
    counts.keep(64, 8)
    assert counts.count(64) == 8
    free = int(10.9 * 2**30)
    assert counts.count(64) == 8
    free = 4 * 2**30
    assert counts.count(64) == 8
    free = 20 * 2**30
    assert counts.count(64) == 1
    counts.keep(64, 2)
    assert counts.count(64) == 2
    assert json.loads(counts.path(64).read_text())["free_bytes"] == free


def test_there_are_no_more_parts_than_images(folder: Path) -> None:
    counts = Remembered({"backbone": "b"}, CPU)
    counts.keep(64, 4096)
    assert counts.count(64) == 64


def holding(limit: int) -> Callable[[list[slice]], list[int]]:
    def work(slices: list[slice]) -> list[int]:
        sizes = [part.stop - part.start for part in slices]
        if max(sizes) > limit:
            raise torch.OutOfMemoryError("no room")
        return sizes

    return work


def test_how_it_came_to_the_count_is_told(folder: Path) -> None:
    counts, images = Remembered({"backbone": "b"}, CPU), torch.zeros(16, 3, 2, 2)
    parts = Parts(CPU, counts=counts)
    parts.run(images, holding(16))
    assert parts.metrics == {"micro_batches": 1.0}
    assert not folder.exists(), "nothing was found out"
    parts.run(images, holding(4))  # memory has run short after the first batch
    assert parts.metrics == {"micro_batches": 4.0, "micro_batches_first": 1.0}
    later = Parts(CPU, counts=counts)
    assert later.run(images, holding(16)) == [4] * 4
    assert later.metrics == {"micro_batches": 4.0, "micro_batches_remembered": 4.0}
    later.run(images, holding(2))
    assert later.metrics == {
        "micro_batches": 8.0, "micro_batches_first": 4.0, "micro_batches_remembered": 4.0,
    }  # fmt: skip
    assert counts.count(16) == 8


def test_an_attempt_that_failed_leaves_no_trace() -> None:
    """Random numbers and batch statistics go on as if it had not been made."""
    images = torch.randn(16, 4, 1, 1, generator=torch.Generator().manual_seed(1))

    def outcome(start: int) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.BatchNorm2d(4), nn.Dropout(0.5))
        fits = holding(4)

        def work(slices: list[slice]) -> list[torch.Tensor]:
            done = [net(images[part]) for part in slices]
            fits(slices)
            return done

        parts = Parts(CPU, count=start, module=net)
        return parts.run(images, work), dict(net.named_buffers())

    (found, statistics), (direct, expected) = outcome(1), outcome(4)
    assert all(map(torch.equal, found, direct))
    assert all(torch.equal(statistics[name], expected[name]) for name in expected)


def test_an_extraction_starts_where_the_last_one_ended_up(
    folder: Path, catalog: Catalog, case: Case, tmp_path: Path
) -> None:
    plan = Plan(catalog, Selection(scale="smoke"))
    knn = replace(plan.cases("knn")[0], backbone=case.backbone)
    first, refused = ran(knn, features=str(tmp_path / "one"))
    assert refused
    again, none = ran(knn, features=str(tmp_path / "two"))
    assert none == []
    assert again.metrics["images_extracted"] == first.metrics["images_extracted"] > 0
    assert again.metrics["top1"] == first.metrics["top1"]
