"""What of a session is of earlier ones, in lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from bob import __version__
from bob.evaluation import Evaluation
from bob.fingerprint import fingerprint
from bob.ledger.records import Damage, Recorded

_TOLD = ("torch", "torchvision", "timm")
"""Packages whose change is told: a run key does not hold them."""


def reused_lines(
    evaluations: Iterable[Evaluation],
    damaged: Sequence[Damage] = (),
    *,
    problems: Sequence[str] = (),
) -> list[str]:
    """How many results were reused, of which sessions, and what was other then.

    Args:
        evaluations: The session's.
        damaged: Results that could not be read.
        problems: Why the store could not be asked for results.
    """
    evaluations = list(evaluations)
    reused = [recorded for evaluation in evaluations for recorded in evaluation.reused]
    total = sum(len(evaluation.results) for evaluation in evaluations)
    lines = [f"{len(reused)} of {total} results are reused."]
    sessions = Counter(recorded.session for recorded in reused)
    for session in sorted(sessions, key=lambda name: _last(reused, name)):
        when = _last(reused, session)[:16].replace("T", " ")
        count = f"{sessions[session]} result{'' if sessions[session] == 1 else 's'}"
        lines.append(f"  {count} of session {session}, until {when} UTC")
    lines += [f"  {text}" for text in [*_places(reused), *_differences(reused)]]
    lines += [f"  could not be read: {damage}" for damage in damaged]
    lines += [f"  the store was not asked for what the ledger lacks: {text}" for text in problems]
    return lines


def _last(reused: Iterable[Recorded], session: str) -> str:
    return max(recorded.time for recorded in reused if recorded.session == session)


def _places(reused: Iterable[Recorded]) -> list[str]:
    """Devices and precisions they were measured in: a run key does not hold them either."""
    names = ("gpu", "device"), ("precision",)
    found = [recorded.result.environment for recorded in reused]
    counts = Counter(
        tuple(next((there[name] for name in either if name in there), "?") for either in names)
        for there in found
    )
    return [
        f"{count} measured on {device} in precision {precision}"
        for (device, precision), count in sorted(counts.items())
    ]


def _differences(reused: Iterable[Recorded]) -> list[str]:
    """Versions that some were measured with and this session has not."""
    here = {**{name: fingerprint()[name] for name in _TOLD}, "bob": __version__}
    counts: Counter[tuple[str, str]] = Counter()
    for recorded in reused:
        there = {**recorded.result.environment, "bob": recorded.version}
        counts.update(
            (name, there[name]) for name in here if name in there and there[name] != here[name]
        )
    return [
        f"{count} measured with {name} {version}; this session has {here[name]}"
        for (name, version), count in sorted(counts.items())
    ]
