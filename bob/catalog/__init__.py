"""The catalog: which backbones, datasets and scales there are, read from YAML."""

from bob.catalog.dataset_spec import parse_dataset
from bob.catalog.load import Catalog, load_catalog
from bob.catalog.schema import (
    BackboneEntry,
    DatasetEntry,
    ScaleEntry,
    TaskPlan,
    Weights,
)
from bob.catalog.spec import parse_backbone

__all__ = [
    "BackboneEntry",
    "Catalog",
    "DatasetEntry",
    "ScaleEntry",
    "TaskPlan",
    "Weights",
    "load_catalog",
    "parse_backbone",
    "parse_dataset",
]
