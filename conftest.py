"""What this repository's own tests and suites need."""

from __future__ import annotations

import pytest

from bob.catalog import BackboneEntry

pytest_plugins = ["pytester"]


def pytest_bob_backbones(config: pytest.Config) -> list[BackboneEntry]:
    """Register a local backbone under a name, here for ``pytest --backbone pooled_pixels``.

    It belongs to no scale, so it runs only when named. Any repository can add its own this way.
    """
    return [
        BackboneEntry(
            key="pooled_pixels",
            family="pixels",
            source="bob.backbones.micro:pooled_pixels",
            pretraining="none",
            note="mean colour of a grid of patches: what a backbone must beat",
        )
    ]
