"""Average precision of detections when every image counts a number of times."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from bob.case import DetectionOutcomes
from bob.case.detections import THRESHOLDS

Values = NDArray[np.float64]
Places = NDArray[np.int64]
Counts = NDArray[np.int32]

_RECALLS = np.linspace(0.0, 1.0, 101)
_TOGETHER = 30_000
"""Matches that are gone through at once: what stays in a processor's cache."""


@dataclass(frozen=True, kw_only=True)
class _Runs:
    """Some runs: the detections of one class that match at one IoU threshold, the best first.

    Precision gets better at those alone, so that of the others their number is enough.

    Attributes:
        matched: Place of each among all detections, ``(m,)``.
        image_of: Its image, ``(m,)``.
        first: Place among all detections where its class begins, ``(m,)``.
        ignored_before: Place among all ignored ones behind the last before it, ``(m,)``.
        ignored_first: Place among those where its run's begin, ``(m,)``.
        run_of: Its run, ``(m,)``.
        starts: Where each run begins, ``(r,)``.
        label_of: Class of each run, ``(r,)``.
    """

    matched: Places
    image_of: Places
    first: Places
    ignored_before: Places
    ignored_first: Places
    run_of: Places
    starts: Places
    label_of: Places

    def total(self, weights: Counts, counted: Counts, gone: Counts, objects: Values) -> float:
        """Sum of the runs' average precisions; 0 for a run without objects that count.

        Args:
            weights: How often each image counts, ``(images,)``.
            counted: Detections before each place, and in all, ``(d + 1,)``.
            gone: Ignored ones before each place, and in all, ``(i + 1,)``.
            objects: Objects of each class that count, ``(labels,)``.
        """
        before = counted.take(self.matched + 1) - counted.take(self.first)
        before -= gone.take(self.ignored_before) - gone.take(self.ignored_first)
        summed = _summed(weights.take(self.image_of))
        right = summed[1:] - summed.take(self.starts).take(self.run_of)
        # of a run the best that is still to come; runs are kept apart by steps of 2
        steps = 2.0 * (len(self.starts) - self.run_of)
        precision = right / np.maximum(before, 1) + steps
        best = np.maximum.accumulate(precision[::-1])[::-1] - steps
        recall = right / np.maximum(objects, 1)[self.label_of].take(self.run_of)
        reached = np.minimum((recall * 100 + 1e-9).astype(np.int32), 100)
        reached += _RECALLS.take(reached) <= recall
        newly = np.diff(reached, prepend=reached.dtype.type(0))
        newly[self.starts] = reached[self.starts]
        per_run = np.add.reduceat(newly * best, self.starts) / len(_RECALLS)
        return float(per_run[objects[self.label_of] > 0].sum())


@dataclass(frozen=True)
class PrecisionTable:
    """Outcomes on one list of images, ordered as average precision takes them.

    Attributes:
        image_of: Image of each detection, by class and then the best-scored first, ``(d,)``.
        ignored_image_of: Of each that is ignored, threshold by threshold, ``(i,)``.
        runs: What matched.
        objects: Image, class and number of the objects of a class in an image, ``(3, t)``.
        labels: Classes that have objects; they are numbered anew.
    """

    image_of: Places
    ignored_image_of: Places
    runs: tuple[_Runs, ...]
    objects: Places
    labels: int

    @classmethod
    def of(cls, outcomes: DetectionOutcomes, kind: str, *, part: int = 0) -> Self | None:
        """The table of ``box`` or ``mask`` matches on a list; none where there are no such.

        Args:
            outcomes: Of one run.
            kind: Which matches.
            part: Position of the list.
        """
        bits = outcomes.bits(kind)
        if bits is None:
            return None
        start = sum(images.count for images in outcomes.lists[:part])
        stop = start + outcomes.lists[part].count
        here = (outcomes.truth_images >= start) & (outcomes.truth_images < stop)
        # detections of a class without objects count nowhere
        classes, labels = np.unique(outcomes.truth_labels[here], return_inverse=True)
        rows = np.flatnonzero(
            (outcomes.images >= start)
            & (outcomes.images < stop)
            & np.isin(outcomes.labels, classes)
        )
        rows = rows[np.lexsort((-outcomes.scores[rows], outcomes.labels[rows]))]
        image_of = outcomes.images[rows].astype(np.int64) - start
        label = np.searchsorted(classes, outcomes.labels[rows])
        begins = np.searchsorted(label, np.arange(len(classes)))
        columns: list[list[Places]] = []
        ignored_images: list[Places] = [np.zeros(0, np.int64)]
        before = 0
        for threshold in range(THRESHOLDS):
            matched, ignored = (np.flatnonzero((kept[rows] >> threshold) & 1) for kept in bits)
            own = label[matched]
            ignored_before = before + np.searchsorted(ignored, matched)
            ignored_first = before + np.searchsorted(ignored, begins[own])
            run = threshold * len(classes) + own
            columns.append([matched, begins[own], ignored_before, ignored_first, run])
            ignored_images.append(image_of[ignored])
            before += len(ignored)
        joined = [np.concatenate(found) for found in zip(*columns, strict=True)]
        return cls(
            image_of=image_of,
            ignored_image_of=np.concatenate(ignored_images),
            runs=tuple(_blocks(joined, image_of, len(classes))),
            objects=np.stack(
                [outcomes.truth_images[here] - start, labels, outcomes.truth_counts[here]]
            ).astype(np.int64),
            labels=len(classes),
        )

    def shares(self, images: int) -> Values:
        """Part of the score that objects of each of so many images have, ``(images,)``."""
        image, label, count = self.objects
        totals = np.bincount(label, count, self.labels)
        found = np.bincount(image, count / totals[label], images)
        return np.asarray(found / max(1, self.labels), np.float64)

    def score(self, weights: Places) -> float:
        """COCO's average precision: mean over IoU thresholds and classes that have objects.

        Of an image that counts several times each detection does, all at its place in the order.

        Args:
            weights: How often each image counts, ``(images,)``.

        Returns:
            NaN where no image with an object counts.
        """
        image, label, count = self.objects
        objects = np.bincount(label, weights[image] * count, self.labels).astype(np.float64)
        classes = int((objects > 0).sum())
        if not classes:
            return math.nan
        times = weights.astype(np.int32)
        counted = _summed(times.take(self.image_of))
        gone = _summed(times.take(self.ignored_image_of))
        total = sum(runs.total(times, counted, gone, objects) for runs in self.runs)
        return total / (THRESHOLDS * classes)


def _blocks(columns: list[Places], image_of: Places, classes: int) -> Iterator[_Runs]:
    """Runs in blocks of about ``_TOGETHER`` matches, from columns of all matches."""
    matched, first, ignored_before, ignored_first, run = columns
    keys, starts = np.unique(run, return_index=True)
    ends = np.append(starts[1:], len(run))
    begin = 0
    while begin < len(keys):
        full = np.searchsorted(ends, starts[begin] + _TOGETHER, side="right")
        stop = max(begin + 1, int(full))
        here = slice(int(starts[begin]), int(ends[stop - 1]))
        yield _Runs(
            matched=matched[here],
            image_of=image_of[matched[here]],
            first=first[here],
            ignored_before=ignored_before[here],
            ignored_first=ignored_first[here],
            run_of=np.searchsorted(keys[begin:stop], run[here]),
            starts=starts[begin:stop] - starts[begin],
            label_of=keys[begin:stop] % classes,
        )
        begin = stop


def _summed(counts: Counts) -> Counts:
    """Sums of all before each place and before the end, ``(n + 1,)`` of ``(n,)``."""
    found = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=found[1:])
    return found
