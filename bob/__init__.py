"""Battle of the backbones: an MLflow-tracked evaluation suite of pytest tests.

Importing ``bob`` loads neither torch, timm nor mlflow; the rooms that need them load them on use.
"""

from importlib.metadata import PackageNotFoundError, version

from bob.case import Case, Failure, Result, Status, Verdict
from bob.errors import BobError

try:
    __version__ = version("battle-of-backbones")
except PackageNotFoundError:
    __version__ = "0+unknown"

__all__ = ["BobError", "Case", "Failure", "Result", "Status", "Verdict", "__version__"]
