"""Hooks that a ``conftest.py`` or a plugin may implement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from bob.catalog import BackboneEntry
    from bob.evaluation import Evaluation


@pytest.hookspec()
def pytest_bob_backbones(config: pytest.Config) -> list[BackboneEntry]:  # type: ignore[empty-body]
    """Return further backbones for the catalog; torch need not be imported for that."""


@pytest.hookspec()
def pytest_bob_evaluated(config: pytest.Config, evaluation: Evaluation) -> None:
    """Called after each judged case, for trackers of your own."""
