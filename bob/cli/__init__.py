"""``bob``: look at the catalog, a plan, the store and the machine without running anything."""

from bob.cli.main import main

__all__ = ["main"]
