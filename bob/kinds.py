"""Kinds of data: declared here once, for protocols and for catalog entries."""

from __future__ import annotations

from typing import Literal

DataKind = Literal[
    "classification", "shift", "multilabel", "retrieval", "detection", "detection_shift"
]
"""``classification``: one class an image; ``shift``: the same with shifted targets besides;
``multilabel``: any number of labels an image; ``retrieval``: queries and a database;
``detection``: boxes, and masks where there are any; ``detection_shift``: the same with shifted
targets besides."""
