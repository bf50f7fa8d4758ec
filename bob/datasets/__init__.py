"""Datasets behind one interface."""

from bob.datasets.base import (
    ClassificationData,
    Data,
    Relevance,
    RetrievalData,
    Shift,
    ShiftData,
    Split,
    load_dataset,
)

__all__ = [
    "ClassificationData",
    "Data",
    "Relevance",
    "RetrievalData",
    "Shift",
    "ShiftData",
    "Split",
    "load_dataset",
]
