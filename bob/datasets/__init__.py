"""Datasets behind one interface."""

from bob.datasets.base import (
    AnySplit,
    ClassificationData,
    Data,
    MultilabelData,
    Relevance,
    RetrievalData,
    Shift,
    ShiftData,
    Split,
    load_dataset,
)
from bob.datasets.images import ImageSplit

__all__ = [
    "AnySplit",
    "ClassificationData",
    "Data",
    "ImageSplit",
    "MultilabelData",
    "Relevance",
    "RetrievalData",
    "Shift",
    "ShiftData",
    "Split",
    "load_dataset",
]
