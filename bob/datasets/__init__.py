"""Datasets behind one interface."""

from bob.datasets.base import (
    AnySplit,
    ClassificationData,
    Data,
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
    "Relevance",
    "RetrievalData",
    "Shift",
    "ShiftData",
    "Split",
    "load_dataset",
]
