"""The catalog: which backbones, datasets and scales there are, read from YAML."""

from bob.catalog.backbone_spec import family_of, parse_backbone, with_checkpoint
from bob.catalog.dataset_spec import parse_dataset
from bob.catalog.entry_points import installed_backbones
from bob.catalog.load import Catalog, load_catalog
from bob.catalog.schema import (
    BackboneEntry,
    DatasetEntry,
    ScaleEntry,
    TaskPlan,
    Weights,
)

__all__ = [
    "BackboneEntry",
    "Catalog",
    "DatasetEntry",
    "ScaleEntry",
    "TaskPlan",
    "Weights",
    "family_of",
    "installed_backbones",
    "load_catalog",
    "parse_backbone",
    "parse_dataset",
    "with_checkpoint",
]
