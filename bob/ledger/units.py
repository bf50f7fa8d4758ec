"""What a score is the mean of: every test image, or every query."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bob.case import Outcomes, QueryOutcomes, Result


@dataclass(frozen=True, kw_only=True)
class Units:
    """Outcomes that two backbones are compared by, one by one.

    Attributes:
        values: ``(n,)``: of an image 1 where it was classified correctly and 0 elsewhere, of a
            query its average precision. Queries without positives are left out.
        of: Whose they are: equal for two runs on the same images, or queries, in the same order.
    """

    values: NDArray[np.float64]
    of: str


def units_of_result(result: Result) -> Units | None:
    """Outcomes per image or query of a result; none where it has no such."""
    if result.outcomes is not None:
        values, unpaired, kind = *_of_images(result.outcomes), "image"
    elif result.queries is not None:
        values, unpaired, kind = *_of_queries(result.queries), "query"
    else:
        return None
    of = f"{kind} {result.data_digest or unpaired}"
    return Units(values=values, of=of) if len(values) else None


def _of_images(outcomes: Outcomes) -> tuple[NDArray[np.float64], str]:
    import numpy as np

    digest = hashlib.sha256(outcomes.targets.astype("<i8").tobytes()).hexdigest()
    return outcomes.correct.astype(np.float64), digest


def _of_queries(queries: QueryOutcomes) -> tuple[NDArray[np.float64], str]:
    import numpy as np

    counted = ~np.isnan(queries.average_precisions)
    digest = hashlib.sha256(np.packbits(counted).tobytes()).hexdigest()
    return queries.average_precisions[counted].astype(np.float64), digest
