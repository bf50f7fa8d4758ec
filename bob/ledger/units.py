"""What a score is the mean of: every test image, or every query."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bob.case import ImageList

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bob.case import Contributions, Outcomes, QueryOutcomes, Result

ROUNDED = 1e-5
"""How far a score may lie from the mean of what it is made of."""


@dataclass(frozen=True, kw_only=True)
class Units:
    """Outcomes that two backbones are compared by, one by one.

    Attributes:
        values: ``(n,)``: of an image 1 where it was classified correctly and 0 elsewhere, or what
            it contributes to a score over shifts or draws; of a query its average precision.
            Queries without positives are left out.
        of: Whose they are: equal for two runs on the same images, or queries, in the same order.
        lists: The images in lists that other settings may have too; empty for queries and where
            that is not known.
    """

    values: NDArray[np.float64]
    of: str
    lists: tuple[ImageList, ...] = ()


def units_of_result(result: Result) -> Units | None:
    """Outcomes per image or query of a result; none where it has no such.

    Contributions that the score is the mean of come first. A result over shifts also has outcomes,
    which are those on the source.
    """
    if result.contributions is not None and _make_up(result.contributions, result.score):
        return _of_contributions(result.contributions, result.data_digest)
    if result.outcomes is not None:
        return _of_images(result.outcomes, result.data_digest)
    if result.queries is not None:
        return _of_queries(result.queries, result.data_digest)
    return None


def _make_up(contributions: Contributions, score: float | None) -> bool:
    return score is not None and abs(float(contributions.values.mean()) - score) <= ROUNDED


def _of_contributions(contributions: Contributions, data: str) -> Units:
    import numpy as np

    digests = "".join(images.digest for images in contributions.lists)
    unpaired = hashlib.sha256(digests.encode()).hexdigest()
    return Units(
        values=contributions.values.astype(np.float64),
        of=f"contribution {data or unpaired}",
        lists=contributions.lists,
    )


def _of_images(outcomes: Outcomes, data: str) -> Units | None:
    import numpy as np

    if not len(outcomes.targets):
        return None
    images = ImageList.of(outcomes.targets)
    return Units(
        values=outcomes.correct.astype(np.float64),
        of=f"image {data or images.digest}",
        lists=(images,),
    )


def _of_queries(queries: QueryOutcomes, data: str) -> Units | None:
    import numpy as np

    counted = ~np.isnan(queries.average_precisions)
    if not counted.any():
        return None
    unpaired = hashlib.sha256(np.packbits(counted).tobytes()).hexdigest()
    return Units(
        values=queries.average_precisions[counted].astype(np.float64),
        of=f"query {data or unpaired}",
    )
