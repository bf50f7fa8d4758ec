"""What a reference remembers of each test image, and where two runs of one seed part."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Self

from pydantic import Field, field_validator, model_validator

from bob.case import Outcomes, Result
from bob.record import Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_IMAGES = 10_000
"""Images up to which a reference file keeps a bit each, right or wrong; beyond it a digest."""


class Samples(Record):
    """Outcomes per image of one seed of a reference.

    Attributes:
        count: Test images.
        right: Whether each was classified correctly, as bits in base64; empty for many images.
        digest: SHA-256 over the most probable classes and their probabilities to six digits.
    """

    count: int = Field(ge=1)
    right: str = ""
    digest: str

    @field_validator("right")
    @classmethod
    def _is_base64(cls, right: str) -> str:
        base64.b64decode(right, validate=True)
        return right

    @model_validator(mode="after")
    def _has_a_bit_for_each(self) -> Self:
        held = len(base64.b64decode(self.right))
        if self.right and held != (self.count + 7) // 8:
            raise ValueError(f"right holds {held} bytes of bits for {self.count} images")
        return self

    def correct(self) -> NDArray[np.bool_] | None:
        """Whether each image was classified correctly, ``(count,)``; none for many images."""
        import numpy as np

        if not self.right:
            return None
        packed = np.frombuffer(base64.b64decode(self.right), dtype=np.uint8)
        return np.unpackbits(packed, count=self.count).astype(bool)


def samples_of(result: Result) -> Samples | None:
    """What a reference remembers of a result; none where it has no outcomes per image."""
    outcomes = result.outcomes
    if outcomes is None or not len(outcomes.targets):
        return None
    import numpy as np

    right = ""
    if len(outcomes.targets) <= MOST_IMAGES:
        right = base64.b64encode(np.packbits(outcomes.correct).tobytes()).decode()
    return Samples(count=len(outcomes.targets), right=right, digest=_digest(outcomes))


def moved(before: Samples, result: Result) -> str:
    """In words, on which images a run parts from the reference's run of the same seed."""
    after = samples_of(result)
    if after is None or after.count != before.count:
        return "it was read on other images"
    if after.digest == before.digest:
        return "every image has the same outcome"
    then, now = before.correct(), after.correct()
    if then is None or now is None:
        return f"outcomes of its {after.count} images differ"
    lost, won = int((then & ~now).sum()), int((~then & now).sum())
    if not lost + won:
        return f"the same of its {after.count} images are right, with other probabilities"
    return f"of its {after.count} images {lost} are now wrong and {won} now right"


def same_right(before: Samples, result: Result) -> bool:
    """Whether a run got the same images right; of many images, whether all outcomes are equal."""
    after = samples_of(result)
    if after is None or after.count != before.count:
        return False
    if not before.right or not after.right:
        return after.digest == before.digest
    return after.right == before.right


def _digest(outcomes: Outcomes) -> str:
    import numpy as np

    found = hashlib.sha256(np.ascontiguousarray(outcomes.top_classes, dtype="<i4").tobytes())
    rounded = np.round(outcomes.top_probabilities.astype("<f8"), 6) + 0.0
    found.update(rounded.tobytes())
    return found.hexdigest()
