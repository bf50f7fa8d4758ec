"""Features of whole splits: extracted once, kept under the digest of all that makes them."""

from bob.features.extract import View
from bob.features.matrix import Features
from bob.features.source import FeatureSource
from bob.features.store import Entry, FeatureStore, default_folder

__all__ = [
    "Entry",
    "FeatureSource",
    "FeatureStore",
    "Features",
    "View",
    "default_folder",
]
