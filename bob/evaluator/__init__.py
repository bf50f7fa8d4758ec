"""Cases from plan to verdict: run their seeds, keep, judge, record, update references."""

from bob.evaluator.evaluator import Evaluator, Watch

__all__ = ["Evaluator", "Watch"]
