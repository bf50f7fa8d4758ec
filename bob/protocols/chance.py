"""What a score without information reaches, and how surely a score has to beat it."""

from __future__ import annotations

CHANCE_ALPHA = 0.001
"""Chance that a backbone without information passes for one that has some."""

CHANCE_BOUND = "chance_bound"
"""Metric by which a protocol says what features without information stay below, where that is not
the binomial bound of guessing classes."""
