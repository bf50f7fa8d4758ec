"""States that a network cannot take up, and files that mean something else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from bob.case import Case, Context, Progress
from bob.checkpoints.file import Damaged, read, write
from bob.distributed.strategy import make_fabric
from bob.run import run_case
from bob.training.states import Unfit, take_up_training, training_state
from tests.stopped_cases import context, facts, stop


def in_training(progress: Progress) -> bool:
    return progress.phase == "train"


class Odd(nn.Module):
    """A network with a buffer that cannot be written to, or that is there later."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.layer, self.how = nn.Linear(3, 2), how
        if how == "conjugate":
            self.register_buffer("odd", torch.ones(2, dtype=torch.complex64).conj())
        elif how == "expanded":
            self.register_buffer("odd", torch.ones(1).expand(4))
        elif how == "inference":
            with torch.inference_mode():
                self.register_buffer("odd", torch.ones(4))
        else:
            self.register_buffer("odd", None)


def trained(how: str) -> tuple[Odd, torch.optim.Optimizer]:
    model = Odd(how)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


@pytest.mark.parametrize("how", ["conjugate", "expanded", "inference", "late"])
def test_odd_buffers_are_kept_and_taken_up(tmp_path: Path, how: str) -> None:
    fabric = make_fabric("cpu", "32-true")
    model, optimiser = trained(how)
    write(tmp_path / "c", training_state(model, optimiser, fabric), {}, unfinished=tmp_path / "u")
    state, _ = read(tmp_path / "c")
    later, its_optimiser = trained(how)
    take_up_training(state, later, its_optimiser, fabric)
    assert torch.equal(later.layer.weight, model.layer.weight)


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    fabric = make_fabric("cpu", "32-true")
    model, optimiser = trained("late")
    model.odd = torch.ones(3)
    state = training_state(model, optimiser, fabric)
    later, its_optimiser = trained("late")
    before = later.layer.weight.clone()
    with pytest.raises(Unfit, match="1 tensors of the model differ, such as 'odd'"):
        take_up_training(state, later, its_optimiser, fabric)
    assert torch.equal(later.layer.weight, before)
    expanded, another = trained("expanded")
    state = {**training_state(expanded, another, fabric)}
    state["model"] = {**state["model"], "odd": torch.zeros(4)}
    with pytest.raises(Unfit, match="'odd' cannot be written to"):
        take_up_training(state, expanded, another, fabric)


def test_a_case_whose_network_grows_begins_its_training_anew(
    rude_case: Callable[[str], Case], tmp_path: Path
) -> None:
    case, how = rude_case("grows"), context(tmp_path)
    stop(case, how, in_training)
    result = run_case(case, replace(how, resume=True))
    assert result.failure is None
    (remark,) = [text for text in result.remarks if "could not be taken up" in text]
    assert remark.endswith("such as 'backbone.late'; it began anew")
    whole = run_case(case, Context(accelerator="cpu"))
    assert facts(result)["metrics"] == facts(whole)["metrics"]


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 100_000, b'{"blocks": [{"kind": "tensor", "dtype": "float32", "shape": ['
        + b"9" * 30 + b"]}]}",
    ],
)  # fmt: skip
def test_a_whole_file_that_means_something_else_is_damaged(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "c"
    content = len(header).to_bytes(8, "little") + header
    path.write_bytes(b"bobcase1" + hashlib.sha256(content).digest() + content)
    with pytest.raises(Damaged, match="its content cannot be read"):
        read(path)
