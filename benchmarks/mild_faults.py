"""What of mild faults is seen, by the reference's own seed and by the bands.

Faults as they happen: nobody meant them, and each moves the score by little or nothing. A case runs
a seed of its reference first, as on the machine that measured it, and fresh seeds where the values
differ::

    python -m benchmarks.mild_faults --task finetune --measure

``--measure`` measures the references of the chosen cases on this machine first, into a temporary
folder; without it the packaged ones are used, whose seeds say nothing on another machine.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

import bob.backbones.build
import bob.training.loop
from benchmarks.common import evaluator, parser, smoke_cases
from benchmarks.sabotage import changed_evaluation, slower, wrong_labels
from bob.case import Case
from bob.evaluation import Bands
from bob.protocols import PROTOCOLS
from bob.references.files import BUILTIN


@contextmanager
def shifted_evaluation() -> Iterator[None]:
    """Images that scores are read on are moved by a pixel, as by another way of cropping."""
    with changed_evaluation(lambda images: torch.roll(images, 1, dims=-1)):
        yield


@contextmanager
def plain_loss() -> Iterator[None]:
    """Label smoothing, the one regulariser that the smoke recipes have beside decay, is dropped."""
    with patch.object(
        bob.training.loop, "_cross_entropy", lambda recipe, mixed: nn.CrossEntropyLoss()
    ):
        yield


@contextmanager
def evaluation_in_train_mode() -> Iterator[None]:
    """``eval()`` does nothing: batch norm and dropout stay as in training."""
    with patch.object(nn.Module, "eval", lambda self: self.train(True)):
        yield


@contextmanager
def noisy_weights(share: float = 0.01) -> Iterator[None]:
    """Every loaded weight is off by a hundredth of its tensor's deviation."""
    load = bob.backbones.build.load_checkpoint

    def noisy(module: nn.Module, entry: Any) -> Any:
        found = load(module, entry)
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for parameter in module.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter += share * parameter.std(unbiased=False) * noise
        return found

    with patch.object(bob.backbones.build, "load_checkpoint", noisy):
        yield


FAULTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "nothing": nullcontext,
    "0.9 of the learning rate": lambda: slower(0.9),
    "5 % wrong labels": lambda: wrong_labels(0.05),
    "test images moved by a pixel": shifted_evaluation,
    "no label smoothing": plain_loss,
    "evaluation in train mode": evaluation_in_train_mode,
    "1 % noise on weights": noisy_weights,
}


def applies(fault: str, case: Case) -> bool:
    """Whether a case has what the fault breaks."""
    fields = type(case.recipe).model_fields
    if fault == "1 % noise on weights":
        return case.backbone.weights is not None
    if fault == "0.9 of the learning rate":
        return "lr" in fields
    if fault == "no label smoothing":
        return "label_smoothing" in fields
    return fault != "5 % wrong labels" or PROTOCOLS[case.task].data != "retrieval"


def main() -> int:
    """Command line."""
    command = parser(__doc__)
    command.add_argument("--task", choices=PROTOCOLS, help="only cases of this task")
    command.add_argument("--fault", choices=FAULTS, action="append", help="only this one")
    command.add_argument("--measure", action="store_true", help="references on this machine first")
    args = command.parse_args()
    chosen = smoke_cases(args.match, args.task)
    with tempfile.TemporaryDirectory() as folder:
        references = Path(folder) if args.measure else BUILTIN
        if args.measure:
            made = evaluator(args.accelerator, args.precision, references)
            made.bands = Bands.ALL
            for case in chosen:
                made.evaluate(case)
        seen = _try_all(chosen, references, args.accelerator, args.precision, args.fault)
    print(f"\n{'fault':<30} {'cases':>6} {'own seed':>9} {'red':>5} {'either':>7}")
    for fault in FAULTS:
        counts = seen[fault]
        print(
            f"{fault:<30} {counts['cases']:>6} {counts['own']:>9} {counts['red']:>5} "
            f"{counts['either']:>7}"
        )
    print("own seed: the reference's seed gave other values; red: the bands on fresh seeds failed.")
    return 0


def _try_all(
    chosen: list[Case],
    references: Path,
    accelerator: str,
    precision: str,
    wanted: list[str] | None,
) -> dict[str, Counter[str]]:
    seen: dict[str, Counter[str]] = {fault: Counter() for fault in FAULTS}
    for case in chosen:
        for fault, broken in FAULTS.items():
            if fault not in (wanted or FAULTS) or not applies(fault, case):
                continue
            made = evaluator(accelerator, precision, references)
            made.same_seed = True
            with broken():
                verdict = made.evaluate(case).verdict
            own = any(text.startswith("differs from the reference") for text in verdict.warnings)
            red = verdict.status.value == "fail"
            seen[fault] += Counter(cases=1, own=own, red=red, either=own or red)
            told = "unchanged" if verdict.unchanged else "differs" if own else "another machine"
            print(
                f"{case.task} {case.name}, {fault}: own seed {told}; bands {verdict.status.value}, "
                f"stage {verdict.stage}; {'; '.join((verdict.reason, *verdict.warnings[:1]))}",
                flush=True,
            )
    return seen


if __name__ == "__main__":
    sys.exit(main())
