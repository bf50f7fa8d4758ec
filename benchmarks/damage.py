"""What of a damaged released backbone is seen on real photographs.

Every case of a released backbone at scale ``laptop`` is checked against its reference once as it is
and once with each damage. The frozen protocols of one damage share their features::

    python -m benchmarks.damage                  # needs the weights and Fashion-MNIST
    python -m benchmarks.damage --task knn

Damage is done to the module or to what is fed to it, after the entry was read: a changed entry,
file or image size is told by its digest or its protocol.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

import bob.backbones.build
import bob.run.steps
from benchmarks.common import evaluator, parser
from benchmarks.mild_faults import noisy_weights
from bob.backbones import Backbone
from bob.case import Case, Status
from bob.catalog import load_catalog
from bob.catalog.data_root import missing
from bob.evaluation import Evaluation
from bob.plan import Plan, Selection
from bob.protocols import PROTOCOLS
from bob.references.files import BUILTIN
from bob.tabular import aligned

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@contextmanager
def layer_initialised_anew() -> Iterator[None]:
    """The last layer with a matrix or kernel is as its own ``reset_parameters`` leaves it."""
    load = bob.backbones.build.load_checkpoint

    def damaged(module: nn.Module, entry: Any) -> Any:
        found = load(module, entry)
        layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            layers[-1].reset_parameters()
        return found

    with patch.object(bob.backbones.build, "load_checkpoint", damaged):
        yield


@contextmanager
def changed_backbone(change: Callable[[Backbone], Backbone]) -> Iterator[None]:
    """What the runner builds is changed on its way to the protocol."""
    build = bob.run.steps.build_backbone

    def changed(*args: Any, **options: Any) -> Backbone:
        return change(build(*args, **options))

    with patch.object(bob.run.steps, "build_backbone", changed):
        yield


def wrong_normalisation() -> AbstractContextManager[None]:
    """ImageNet's mean and deviation in place of the backbone's own."""
    return changed_backbone(lambda backbone: replace(backbone, mean=IMAGENET[0], std=IMAGENET[1]))


def half_the_input_size() -> AbstractContextManager[None]:
    """Images are fed at half the height and width."""
    return changed_backbone(lambda backbone: replace(backbone, image_size=backbone.image_size // 2))


DAMAGE: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "none": nullcontext,
    "last layer initialised anew": layer_initialised_anew,
    "1 % noise on weights": noisy_weights,
    "ImageNet's normalisation": wrong_normalisation,
    "half the input size": half_the_input_size,
}


def released_cases(match: str = "", task: str | None = None) -> list[Case]:
    """The cases of scale ``laptop`` whose backbone has weights, on datasets that are here."""
    cases = Plan(load_catalog(), Selection(scale="laptop")).all_cases()
    return [
        case
        for case in cases
        if case.backbone.weights
        and match in case.name
        and task in (None, case.task)
        and not missing(case.dataset)
    ]


def seen(
    cases: Sequence[Case],
    references: Path,
    accelerator: str = "auto",
    only: Collection[str] = DAMAGE,
) -> dict[str, list[Evaluation]]:
    """The evaluations of all cases by damage, printed as they come."""
    found: dict[str, list[Evaluation]] = {}
    for name, damage in DAMAGE.items():
        if name not in only:
            continue
        with tempfile.TemporaryDirectory() as features, damage():
            made = evaluator(accelerator, references=references)
            made.context = replace(made.context, features=features)
            made.same_seed = True
            for case in cases:
                evaluation = made.evaluate(case)
                verdict = evaluation.verdict
                found.setdefault(name, []).append(evaluation)
                print(
                    f"{case.task} {case.name}, {name}: {verdict.status.value}, stage "
                    f"{verdict.stage}; {'; '.join((verdict.reason, *verdict.warnings))}",
                    flush=True,
                )
    return found


def word(evaluation: Evaluation) -> str:
    """The status, with a star where the reference's own seed gave other values than before."""
    verdict = evaluation.verdict
    changed = any(text.startswith("differs from") for text in verdict.warnings)
    return f"{verdict.status.value}{' *' if changed else ''}"


def main() -> int:
    """Command line; status 1 when an undamaged case fails."""
    command = parser(__doc__)
    command.add_argument("--task", choices=PROTOCOLS, help="only cases of this task")
    command.add_argument("--references", type=Path, default=BUILTIN)
    args = command.parse_args()
    cases = released_cases(args.match, args.task)
    found = seen(cases, args.references, args.accelerator)
    rows = [["case", *found]]
    for number, case in enumerate(cases):
        rows.append([f"{case.task} {case.name}", *(word(each[number]) for each in found.values())])
    print("", *aligned(rows), "", "*: told as changed by the reference's own seed", sep="\n")
    return int(any(e.verdict.status is Status.FAIL for e in found["none"]))


if __name__ == "__main__":
    sys.exit(main())
