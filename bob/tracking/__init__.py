"""MLflow: the record of every case. Only the controlling process uses this room."""

from bob.tracking.destination import Store, check_reachable, resolve_store
from bob.tracking.recorder import NoTracker, Recorder
from bob.tracking.tracker import Tracker

__all__ = ["NoTracker", "Recorder", "Store", "Tracker", "check_reachable", "resolve_store"]
