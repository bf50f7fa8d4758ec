"""What sessions within the tests' own process share: modules, and pictures of equal results."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib import metadata

import pytest

import bob
from bob.case import Result

Draw = Callable[[Result], bytes | None]

APART = {"bob.cli.__main__", "bob.run.preload"}
"""Modules that act when they are imported."""


def import_modules() -> None:
    """Import what a session would import, once for all of them.

    pytester forgets modules that appear during a session, so that each would import them anew. It
    imports plugins of others too, and those of their modules that they import late.
    """
    for module in pkgutil.walk_packages(bob.__path__, "bob."):
        if module.name not in APART:
            with suppress(ImportError):  # of a library that is not there
                importlib.import_module(module.name)
    for plugin in metadata.entry_points(group="pytest11"):
        with suppress(ImportError):
            plugin.load()
    for name in ("hypothesis", "_pytest.stepwise"):
        with suppress(ImportError):
            importlib.import_module(name)


def draw_once(patch: pytest.MonkeyPatch) -> None:
    """Have the pictures of equal results drawn once: they take longer than a tiny case runs.

    The same case has the same result in every session, but for what was measured of the machine.
    """
    from bob.artifacts import plots

    for name in ("confusion_matrix", "learning_curve"):
        patch.setattr(plots, name, _remembering(getattr(plots, name)))


def _remembering(draw: Draw) -> Draw:
    drawn: dict[bytes, bytes | None] = {}

    def remembered(result: Result) -> bytes | None:
        try:
            key = pickle.dumps(_but_for_the_machine(result))
        except (pickle.PicklingError, AttributeError, TypeError):  # it holds functions
            return draw(result)
        if key not in drawn:
            drawn[key] = draw(result)
        return drawn[key]

    return remembered


def _but_for_the_machine(result: Result) -> Result:
    metrics = {name: v for name, v in result.metrics.items() if not name.startswith("images_")}
    return replace(result, metrics=metrics, timings={}, peak_memory_mb=0.0, environment={})
