"""What average precision is computed from: detections with what they matched, and the objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from bob.case.contributions import ImageList
from bob.errors import BobError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

THRESHOLDS = 10
"""IoU from 0.5 to 0.95 in steps of 0.05, each a bit; that of 0.5 is the lowest."""

_ROWS = ("images", "labels", "scores", "box_matched", "box_ignored")
_MASKS = ("mask_matched", "mask_ignored")
_OBJECTS = ("truth_images", "truth_labels", "truth_counts")


@dataclass(frozen=True, kw_only=True)
class DetectionOutcomes:
    """Detections of test images, each with the IoU thresholds at which it is right.

    Average precision follows from these for any weights of the images, without a box or a mask.

    Attributes:
        lists: Which images. Of several lists each has an average precision of its own, and the
            score is their sum, each times its list's share.
        images: Image of each detection, counted from 0 through all lists, never descending,
            ``(d,)`` int32.
        labels: Its class, ``(d,)`` int32. Of one image and class the best-scored comes first.
        scores: Its score, ``(d,)`` float32.
        box_matched: Bits of the thresholds at which its box is an object's, ``(d,)`` uint16.
        box_ignored: Bits of those at which it is a crowd's and does not count, ``(d,)`` uint16.
        mask_matched: As ``box_matched``, by masks; none where masks are not scored.
        mask_ignored: As ``box_ignored``, by masks.
        truth_images: Image of each group of objects, counted as ``images``, ``(t,)`` int32.
        truth_labels: Their class, ``(t,)`` int32.
        truth_counts: How many there are, crowds not counted, ``(t,)`` int32; at least 1.

    Raises:
        BobError: The arrays do not fit together.
    """

    lists: tuple[ImageList, ...]
    images: NDArray[np.int32]
    labels: NDArray[np.int32]
    scores: NDArray[np.float32]
    box_matched: NDArray[np.uint16]
    box_ignored: NDArray[np.uint16]
    truth_images: NDArray[np.int32]
    truth_labels: NDArray[np.int32]
    truth_counts: NDArray[np.int32]
    mask_matched: NDArray[np.uint16] | None = None
    mask_ignored: NDArray[np.uint16] | None = None

    def __post_init__(self) -> None:
        fault = self._fault()
        if fault:
            raise BobError(f"outcomes of detections: {fault}")

    def bits(self, kind: str) -> tuple[NDArray[np.uint16], NDArray[np.uint16]] | None:
        """What matched and what is ignored by ``box`` or ``mask``; none where it is not scored."""
        if kind == "box":
            return self.box_matched, self.box_ignored
        if self.mask_matched is None or self.mask_ignored is None:
            return None
        return self.mask_matched, self.mask_ignored

    def _fault(self) -> str:
        """What is wrong, in words; empty where nothing is."""
        import numpy as np

        masked = [getattr(self, name) is not None for name in _MASKS]
        if masked[0] != masked[1]:
            return "masks have matches without ignored ones, or the other way round"
        rows = [*_ROWS, *(_MASKS if masked[0] else ())]
        for names in (rows, _OBJECTS):
            shapes = {getattr(self, name).shape for name in names}
            if len(shapes) > 1 or len(next(iter(shapes))) != 1:
                return f"{', '.join(names)} are not of one length"
        for name in (*rows, *_OBJECTS):
            array = getattr(self, name)
            if array.dtype.kind not in ("f" if name == "scores" else "iu"):
                return f"{name} is of type {array.dtype}"
        count = sum(images.count for images in self.lists)
        if not count or any(images.count < 1 or images.step != 1 for images in self.lists):
            return "they are of no images"
        for name in ("images", "truth_images"):
            array = getattr(self, name)
            if array.size and not 0 <= int(array.min()) <= int(array.max()) < count:
                return f"{name} has others than 0 to {count - 1}"
        if (np.diff(self.images.astype(np.int64)) < 0).any():
            return "images are not in order"
        if self.truth_counts.size and int(self.truth_counts.min()) < 1:
            return "truth_counts has one below 1"
        labels = np.concatenate([self.labels, self.truth_labels])
        if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < 2**31:
            return "there is a class below 0"
        if not np.isfinite(self.scores).all():
            return "scores are not finite"
        return self._fault_of_matches()

    def _fault_of_matches(self) -> str:
        import numpy as np

        width = int(max(self.labels.max(initial=0), self.truth_labels.max(initial=0))) + 1
        truth = self.truth_images.astype(np.int64) * width + self.truth_labels
        groups, inverse = np.unique(truth, return_inverse=True)
        objects = np.bincount(inverse, self.truth_counts, minlength=len(groups) + 1)
        own = self.images.astype(np.int64) * width + self.labels
        place = np.searchsorted(groups, own)
        known = np.append(groups, -1)[place] == own
        place[~known] = len(groups)
        for kind in ("box", "mask"):
            bits = self.bits(kind)
            if bits is None:
                continue
            matched, ignored = bits
            if (matched & ignored).any() or ((matched | ignored) >> THRESHOLDS).any():
                return f"{kind} matches are not those of {THRESHOLDS} thresholds"
            for threshold in range(THRESHOLDS):
                right = (matched >> threshold) & 1
                if (np.bincount(place, right, minlength=len(groups) + 1) > objects).any():
                    return f"more {kind} matches than objects"
        return ""


def joined(parts: Sequence[DetectionOutcomes]) -> DetectionOutcomes:
    """Outcomes on several lists of images whose average precisions have equal shares.

    Args:
        parts: At least one, each of one list; masks count where all have them.
    """
    import numpy as np

    starts = np.cumsum([0, *(part.lists[0].count for part in parts)])
    masks = all(part.mask_matched is not None for part in parts)
    columns: dict[str, Any] = {}
    for field in fields(DetectionOutcomes):
        if field.name == "lists" or (field.name in _MASKS and not masks):
            continue
        arrays = [getattr(part, field.name) for part in parts]
        if field.name.endswith("images"):
            arrays = [
                array + array.dtype.type(start)
                for array, start in zip(arrays, starts, strict=False)
            ]
        columns[field.name] = np.concatenate(arrays)
    lists = tuple(replace(part.lists[0], share=1 / len(parts)) for part in parts)
    return DetectionOutcomes(lists=lists, **columns)
