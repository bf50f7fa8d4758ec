"""Results on disk: written first and atomically, read back by whatever comes after."""

from bob.ledger.ledger import Ledger
from bob.ledger.records import Damage, Judgement, Recorded
from bob.ledger.score import Score, best_scores, detections_of, score_rows, units_of

__all__ = [
    "Damage",
    "Judgement",
    "Ledger",
    "Recorded",
    "Score",
    "best_scores",
    "detections_of",
    "score_rows",
    "units_of",
]
