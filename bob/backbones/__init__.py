"""Catalog entry → a backbone ready to be put through a task."""

from bob.backbones.build import Backbone, build_backbone

__all__ = ["Backbone", "build_backbone"]
