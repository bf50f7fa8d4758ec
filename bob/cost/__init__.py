"""What cases cost before they run, on a GPU or on the CPU at hand. Imports nothing heavy."""

from bob.cost.model import Estimate, estimate
from bob.cost.speed import ArchitectureFacts, Speeds, describe
from bob.cost.table import DEFAULT_GPU, gpus
from bob.cost.total import Total, total

__all__ = [
    "DEFAULT_GPU",
    "ArchitectureFacts",
    "Estimate",
    "Speeds",
    "Total",
    "describe",
    "estimate",
    "gpus",
    "total",
]
