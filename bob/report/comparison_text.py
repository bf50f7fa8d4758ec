"""A comparison of two sides as text, Markdown and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

from bob.errors import some
from bob.report.comparison import Answer, ComparedSides, Contrast
from bob.report.sides import Sides
from bob.tabular import aligned, markdown

_HEADER = ("setting", "A", "B", "B better by", "interval", "p", "matters from", "B is")
_WORDS = {
    Answer.WORSE: "WORSE",
    Answer.BETTER: "better",
    Answer.EQUIVALENT: "equivalent",
    Answer.IDENTICAL: "identical",
    Answer.UNDECIDED: "undecided",
}


def plain_text(before: str, after: str, compared: ComparedSides, sides: Sides) -> str:
    """For a terminal."""
    return "\n".join(
        [f"A = {before}, B = {after}", "", *aligned(_rows(compared)), "", *_notes(compared, sides)]
    )


def markdown_text(before: str, after: str, compared: ComparedSides, sides: Sides) -> str:
    """For a pull request."""
    table = markdown(_rows(compared))
    notes = "\n".join(f"- {note}" for note in _notes(compared, sides))
    return f"**A** = `{before}`, **B** = `{after}`\n\n{table}\n{notes}"


def json_text(before: str, after: str, compared: ComparedSides, sides: Sides) -> str:
    """For programs: every number."""
    return json.dumps(
        {
            "before": before,
            "after": after,
            "alpha": compared.alpha,
            "overall": asdict(compared.overall) if compared.overall else None,
            "settings": [asdict(contrast) for contrast in compared.contrasts],
            "not_comparable": dict(sides.apart),
            "own_recipes": list(sides.own_recipes),
            "broken": list(sides.broken),
            "only_before": list(sides.only_before),
            "only_after": list(sides.only_after),
        },
        indent=1,
    )


def _rows(compared: ComparedSides) -> list[tuple[str, ...]]:
    rows = [_HEADER, *(_row(contrast) for contrast in compared.contrasts)]
    if compared.overall is not None and len(compared.contrasts) > 1:
        rows.append(_row(compared.overall))
    return rows


def _row(contrast: Contrast) -> tuple[str, ...]:
    interval = "-"
    if contrast.low is not None and contrast.high is not None:
        interval = f"[{_signed(contrast.low)}, {_signed(contrast.high)}]"
    return (
        contrast.name,
        f"{contrast.before:.4f}",
        f"{contrast.after:.4f}",
        _signed(contrast.effect),
        interval,
        _chance(contrast.adjusted),
        f"{contrast.delta:.3g}" if contrast.delta else "-",
        _WORDS[contrast.answer],
    )


def _chance(p: float | None) -> str:
    if p is None:
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _signed(value: float) -> str:
    return f"{round(value, 4) + 0.0:+.4f}"


def _notes(compared: ComparedSides, sides: Sides) -> list[str]:
    told = [answer for answer in Answer if compared.count(answer)]
    counts = ", ".join(f"{compared.count(answer)} {answer.value}" for answer in told)
    count = len(compared.contrasts)
    found = [f"{count} {'setting' if count == 1 else 'settings'}: {counts}."]
    if compared.overall is not None and len(compared.contrasts) > 1:
        overall = compared.overall
        found.append(f"Overall B is {overall.answer.value}{_because(overall)}.")
    found += [
        f"{contrast.name}: {contrast.why}."
        for contrast in compared.contrasts
        if contrast.answer is Answer.UNDECIDED
    ]
    found.append(
        f"Intervals are {1 - compared.alpha:.0%} of one setting alone; p is Holm's over all of "
        "them. Equivalent: the difference is surely smaller than what matters."
    )
    found += [f"{name} is left out: {why}." for name, why in sides.apart.items()]
    if sides.broken:
        found.append(f"B is broken: it has a score that is no number in {some(sides.broken)}.")
    if sides.own_recipes:
        found.append(f"Each side has a recipe of its own in {some(sides.own_recipes)}.")
    if sides.only_before:
        found.append(f"Only A has {some(sides.only_before)}.")
    if sides.only_after:
        found.append(f"Only B has {some(sides.only_after)}.")
    return found


def _because(contrast: Contrast) -> str:
    return f": {contrast.why}" if contrast.why else ""
