"""How likely a difference of two backbones is if there were none."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from bob.report.cells import Cell, Values

_EXACT_UP_TO = 1000
_RESAMPLES = 9999


def chance_of_difference(
    cells: Mapping[str, Mapping[str, Cell]], spreads: Mapping[str, float], first: str, second: str
) -> float | None:
    """P-value of the difference of two backbones' z-scores over the settings both have.

    Without a difference, which backbone got an image right is a coin's throw: outcomes of the two
    change places image by image, in all tasks on that image together. With one setting this is
    McNemar's exact test. Settings without outcomes enter with the errors of both scores, as if
    all errors had the same sign.
    """
    paired: dict[str, Values] = {}
    apart, error = 0.0, 0.0
    tested = False
    for name, row in cells.items():
        if first not in row or second not in row or not spreads[name]:
            tested = tested or (first in row and second in row)
            continue
        ahead, behind = row[first], row[second]
        same = (
            ahead.right is not None
            and behind.right is not None
            and ahead.targets is not None
            and behind.targets is not None
            and np.array_equal(ahead.targets, behind.targets)
        )
        if same and ahead.right is not None and behind.right is not None:
            parts = ahead.better * (ahead.right - behind.right) / (len(ahead.right) * spreads[name])
            known = paired.get(ahead.dataset)
            alike = known is not None and len(known) == len(parts)
            key = ahead.dataset if known is None or alike else name
            paired[key] = known + parts if alike and known is not None else parts
        elif ahead.error is not None and behind.error is not None:
            apart += ahead.better * (ahead.value - behind.value) / spreads[name]
            error += math.hypot(ahead.error, behind.error) / spreads[name]
        else:
            continue
        tested = True
    if not tested:
        return None
    parts = np.concatenate([*paired.values(), np.zeros(0)])
    parts = parts[np.abs(parts) > 1e-12]
    if not error:
        return sign_flip(parts)
    from scipy.stats import norm

    error += math.sqrt(float(np.square(parts).sum()))
    return float(2 * norm.sf(abs(float(parts.sum()) + apart) / error))


def sign_flip(differences: Values) -> float:
    """Two-sided p-value of a sum of differences whose signs were coins' throws; zeros aside.

    Every combination of signs is counted where they are few, random ones where they are more, and
    the normal distribution stands in for a thousand and over.

    Args:
        differences: ``(n,)``, none of them 0.
    """
    from scipy.stats import norm, permutation_test

    if len(differences) < 2:
        return 1.0
    if len(differences) > _EXACT_UP_TO:
        z = abs(float(differences.sum())) / math.sqrt(float(np.square(differences).sum()))
        return float(2 * norm.sf(z))
    found = permutation_test(
        (differences,),
        lambda values, axis: np.round(np.sum(values, axis=axis), 12),
        permutation_type="samples",
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=1000,
        random_state=0,
    )
    return min(1.0, float(found.pvalue))
