"""What can be said of scores that no reference can be compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean

from bob.case import Case, Result, Status, Verdict
from bob.protocols.chance import CHANCE_BOUND, guessing_bound
from bob.references.bands import DIGITS
from bob.references.files import BUILTIN
from bob.references.forms import Reference


def without_reference(case: Case, scores: dict[int, float], results: Sequence[Result]) -> Verdict:
    """Verdict on whether the scores beat chance.

    Args:
        case: The case.
        scores: Score by seed.
        results: One result a seed, without failures.
    """
    classes, size = _classes_and_size(case, results)
    mean = fmean(scores.values())
    bound = chance_of(case, results)
    bounds = any(CHANCE_BOUND in result.metrics for result in results)
    remarks = tuple(dict.fromkeys(text for result in results for text in result.remarks))
    if bound is None:
        return Verdict(
            status=Status.NO_REFERENCE,
            reason=f"{case.metric} {mean:.4f}; there is no reference to compare with, and its "
            f"protocol gives no {CHANCE_BOUND}. Measure one with --bands new.",
            scores=scores,
            warnings=remarks,
        )
    if bound >= 1:
        return Verdict(
            status=Status.NO_REFERENCE,
            reason=f"{case.metric} {mean:.4f} cannot be told from chance: of {classes} classes and "
            f"{size} test images even guesses may all be right. Add test images. There is no "
            "reference to compare with.",
            scores=scores,
            warnings=remarks,
        )
    if round(mean, DIGITS) <= round(bound, DIGITS):
        return Verdict(
            status=Status.FAIL,
            reason=f"no reference, and {case.metric} {mean:.4f} does not beat chance "
            f"({bound:.4f} needed{'' if bounds else f' on {size} images'})",
            scores=scores,
            warnings=remarks,
        )
    return Verdict(
        status=Status.NO_REFERENCE,
        reason=f"{case.metric} {mean:.4f} beats chance; there is no reference to compare with. "
        "Measure one with --bands new.",
        scores=scores,
        warnings=remarks,
    )


def chance_of(case: Case, results: Sequence[Result]) -> float | None:
    """What a score without information is no higher than; none where the protocol does not tell.

    Without information one can guess, and always name the class of most test images.

    Args:
        case: The case.
        results: One result a seed, without failures.
    """
    bounds = [result.metrics[CHANCE_BOUND] for result in results if CHANCE_BOUND in result.metrics]
    if bounds:
        return fmean(bounds)
    if case.judged[0].scale != "angular":
        return None
    classes, size = _classes_and_size(case, results)
    if not classes:
        return None
    return max(
        guessing_bound(classes, size), *(_largest_class(case, found) for found in results), 0
    )


def _largest_class(case: Case, result: Result) -> float:
    """What always naming the class of most test images gives; 0 where nothing tells."""
    if case.metric != "top1" or result.outcomes is None or not len(result.outcomes.targets):
        return 0.0
    counts = Counter(result.outcomes.targets.tolist())
    return counts.most_common(1)[0][1] / len(result.outcomes.targets) if len(counts) > 1 else 0.0


def _classes_and_size(case: Case, results: Sequence[Result]) -> tuple[int, int]:
    classes = case.dataset.classes or max((result.classes for result in results), default=0)
    sizes = (result.test_size for result in results)
    return classes, case.dataset.test_size or max(sizes, default=0)


def stale(
    case: Case, scores: dict[int, float], reference: Reference, path: Path, absent: list[str]
) -> Verdict:
    """Verdict where the only reference was measured under another protocol.

    Args:
        case: The case.
        scores: Score by seed.
        reference: The reference.
        path: Its file.
        absent: Judged metrics that it lacks.
    """
    recipe = case.recipe.model_dump(mode="json")
    changes = [
        f"{key} {reference.recipe.get(key)!r} -> {recipe.get(key)!r}"
        for key in sorted(recipe.keys() | reference.recipe.keys())
        if recipe.get(key) != reference.recipe.get(key)
    ]
    what = ", ".join(changes) or "the dataset or the protocol version"
    why = f"the protocol changed since it was measured ({what})"
    if reference.protocol == case.protocol:
        why = f"it lacks {', '.join(absent)}"
    return Verdict(
        status=Status.FAIL,
        reason=f"no comparable reference: {why}. "
        "Undo the change, or measure anew with --bands failed.",
        scores=scores,
        reference_seeds=tuple(sorted(reference.values)),
        origin=origin_of(path, reference),
        stale=True,
    )


def origin_of(path: Path, reference: Reference) -> str:
    """File and day, in words that mean something on another machine too."""
    shown = str(path)
    with suppress(ValueError):
        shown = f"packaged {path.relative_to(BUILTIN)}"
    with suppress(ValueError):
        shown = str(path.relative_to(Path.cwd()))
    return f"{shown}, {reference.origin} {reference.recorded}"
