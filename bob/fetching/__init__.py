"""Datasets from their owners' addresses into the data root."""

from bob.fetching.fetch import fetch
from bob.fetching.pinning import Checked, verify
from bob.fetching.plan import Plan, Wanted, planned
from bob.fetching.several import Progress, fetch_all

__all__ = ["Checked", "Plan", "Progress", "Wanted", "fetch", "fetch_all", "planned", "verify"]
