"""MLflow: a projection of results. Only the controlling process uses this room."""

from bob.tracking.destination import Destination, check_reachable, resolve_store
from bob.tracking.recorder import NoTracker, Recorder
from bob.tracking.tracker import Tracker

__all__ = ["Destination", "NoTracker", "Recorder", "Tracker", "check_reachable", "resolve_store"]
