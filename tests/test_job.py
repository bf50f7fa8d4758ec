"""Runners and their jobs; what recipes tell the suite; batches that do not fit."""

from __future__ import annotations

import ast
import dataclasses
import time
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bob.backbones import build_backbone
from bob.case import Case
from bob.catalog import Catalog
from bob.datasets import load_dataset
from bob.errors import BobError
from bob.objects import import_object
from bob.protocols import PROTOCOLS, Judged, ProtocolSpec, Recipe, Work
from bob.protocols.detection import DetectionRecipe
from bob.protocols.finetune import FinetuneRecipe
from bob.protocols.grid import Grid
from bob.protocols.knn import KnnRecipe
from bob.protocols.registry import GROUP, OWN, join
from bob.record import Record
from bob.training.memory import Parts
from bob.training.throttle import Throttle
from tests.jobs import make_job

TASKS = Path(__file__).parents[1] / "bob" / "tasks"
CPU = torch.device("cpu")


@pytest.mark.parametrize("name", OWN)
def test_a_runner_has_the_name_of_its_protocol(name: str) -> None:
    spec = PROTOCOLS[name]
    assert (spec.name, spec.runner) == (name, f"bob.tasks.{name}:run")
    assert callable(import_object(spec.runner, what="runner"))


def test_bob_tasks_holds_runners_and_what_they_share() -> None:
    modules = {path.stem for path in TASKS.glob("*.py") if not path.stem.startswith("_")}
    assert modules == set(OWN)
    for name in modules:
        tree = ast.parse((TASKS / f"{name}.py").read_text(encoding="utf-8"))
        public = {
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        }
        assert public == {"run"}, name


def test_a_job_is_frozen_and_its_parts_are_jobs(catalog: Catalog, tiny_case: Case) -> None:
    data = load_dataset(tiny_case.dataset)
    net = build_backbone(catalog.backbone("resnet_micro_glyphs"), image_size=32)
    job = make_job(tiny_case, net, data)
    assert (job.classes, job.workers, job.seed, job.device) == (10, 0, tiny_case.seed, CPU)
    with pytest.raises(dataclasses.FrozenInstanceError):
        job.seed = 1  # type: ignore[misc]
    part = dataclasses.replace(job, recipe=KnnRecipe(k=3), backbone=job.backbone.copied(), seed=5)
    assert (part.recipe.k, part.seed, job.recipe) == (3, 5, tiny_case.recipe)
    with torch.no_grad():
        next(part.backbone.module.parameters()).fill_(7)
    assert not (next(job.backbone.module.parameters()) == 7).all()


def test_a_recipe_tells_what_the_suite_asks() -> None:
    plain = Recipe()
    assert (plain.engine_name, plain.searched, plain.variant) == ("", False, "")
    assert (plain.unjudged, plain.input_size, plain.drop_path_rate) == ((), None, 0.0)
    grid = Grid(lr=(1e-3,), weight_decay=(0.05,))
    tuned = FinetuneRecipe(image_size=64, drop_path=0.3, grid=grid)
    assert (tuned.input_size, tuned.drop_path_rate, tuned.variant) == (64, 0.3, "grid")
    boxes = DetectionRecipe(masks=False, drop_path=0.2)
    assert (boxes.variant, boxes.unjudged) == ("detectron2", ("mask_ap",))
    # a detector brings the backbone from its own size to that of the images
    assert (boxes.input_size, boxes.drop_path_rate) == (None, 0.2)


def test_the_base_adds_nothing_to_what_is_hashed() -> None:
    assert Recipe().model_dump() == {}
    asked = {name for name in dir(Recipe) if isinstance(getattr(Recipe, name), property)}
    for name, spec in PROTOCOLS.items():
        assert issubclass(spec.recipe, Recipe), name
        assert not asked & set(spec.recipe.model_fields), "a field would be hidden by a property"


class Foreign(Record):
    """A recipe of another package that does not derive from ``Recipe``."""


FOREIGN = ProtocolSpec(
    name="foreign",
    runner="somewhere:run",
    recipe=Foreign,  # type: ignore[arg-type]
    judged=(Judged("top1", "proportion"),),
    work=lambda recipe, sizes: Work(side=32),
    description="of another package",
)


def test_a_protocol_with_another_kind_of_recipe_is_left_out() -> None:
    specs: dict[str, ProtocolSpec] = {}
    problem = join(specs, EntryPoint("foreign", "tests.test_job:FOREIGN", GROUP))
    assert "its recipe Foreign is no bob.protocols.Recipe" in problem
    assert not specs


@settings(deadline=None)
@given(
    batches=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    limit=st.integers(1, 40),
)
def test_a_batch_is_worked_off_in_parts_that_fit(batches: list[int], limit: int) -> None:
    """Gradients summed over the parts are those of the whole, however small the memory."""
    parts = Parts(CPU)
    weight = torch.ones(3, requires_grad=True)
    largest = 0
    for batch in batches:
        images = torch.arange(batch * 3.0).view(batch, 3, 1, 1)
        before = parts.count

        def work(slices: list[slice], images: torch.Tensor = images) -> list[float]:
            nonlocal largest
            means = []
            for part in slices:
                # what came before is accumulated when memory runs out
                if len(images[part]) > limit:
                    raise torch.OutOfMemoryError("no room")
                largest = max(largest, len(images[part]))
                loss = (images[part].flatten(1) * weight).sum() / len(images)
                loss.backward()
                means.append(float(loss.detach()))
            return means

        weight.grad = None
        means = parts.run(images, work, undo=lambda: setattr(weight, "grad", None))
        assert weight.grad is not None
        assert torch.allclose(weight.grad, images.flatten(1).mean(dim=0))
        assert sum(means) == pytest.approx(float(images.sum()) / batch)
        assert parts.count >= before, "what was found out is kept"
    assert largest <= limit


def test_a_single_image_that_does_not_fit_is_told_with_its_size() -> None:
    tried: list[int] = []

    def work(slices: list[slice]) -> None:
        tried.append(len(slices))
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(BobError, match="cpu with a single image of 16 x 24 pixels") as caught:
        Parts(CPU).run([torch.zeros(3, 16, 24)] * 6, work)
    assert caught.value.kind == "out-of-memory"
    assert tried == [1, 2, 3, 6], "six images in 1, 2, 4 and 8 parts, the last two rounded"


def test_an_attempt_that_failed_holds_no_memory_when_the_next_starts() -> None:
    import weakref

    held: list[weakref.ref[torch.Tensor]] = []

    def work(slices: list[slice]) -> int:
        assert not any(ref() is not None for ref in held), "the exception keeps its tensors"
        activations = torch.zeros(4)
        held.append(weakref.ref(activations))
        if len(slices) < 4:
            raise torch.OutOfMemoryError("no room")
        return len(slices)

    assert Parts(CPU).run(torch.zeros(8, 3, 2, 2), work) == 4


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    def work(slices: list[slice]) -> None:
        raise RuntimeError("shapes differ")

    parts = Parts(CPU)
    with pytest.raises(RuntimeError, match="shapes differ"):
        parts.run(torch.zeros(8, 3, 2, 2), work)
    assert parts.count == 1


def test_progress_is_due_at_once_and_then_after_a_while() -> None:
    throttle = Throttle(seconds=0.05)
    assert throttle.due()
    assert not throttle.due()
    time.sleep(0.06)
    assert throttle.due()
    assert not throttle.due()
