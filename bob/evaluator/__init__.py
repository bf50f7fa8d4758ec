"""Cases from plan to verdict: run their seeds, keep, judge, record, update references."""

from bob.evaluator.evaluator import Evaluator
from bob.evaluator.watch import Watch

__all__ = ["Evaluator", "Watch"]
