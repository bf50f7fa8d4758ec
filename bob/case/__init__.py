"""The records that cross every boundary: what is to run, what came out, what it means."""

from bob.case.contributions import Contributions, ImageList
from bob.case.detections import DetectionOutcomes
from bob.case.planned import Case, run_key
from bob.case.result import Content, Failure, Outcomes, QueryOutcomes, Result, Trial
from bob.case.running import Context, Emit, Progress
from bob.case.verdict import Comparison, PublishedComparison, Status, Verdict

__all__ = [
    "Case",
    "Comparison",
    "Content",
    "Context",
    "Contributions",
    "DetectionOutcomes",
    "Emit",
    "Failure",
    "ImageList",
    "Outcomes",
    "Progress",
    "PublishedComparison",
    "QueryOutcomes",
    "Result",
    "Status",
    "Trial",
    "Verdict",
    "run_key",
]
