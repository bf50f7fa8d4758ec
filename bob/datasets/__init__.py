"""Datasets behind one interface."""

from bob.datasets.base import ClassificationData, Split, load_dataset

__all__ = ["ClassificationData", "Split", "load_dataset"]
