"""The same verdicts as text: a failure message, a summary table, a diff of references."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from bob.artifacts.files import verdict_record
from bob.case import Case, Comparison, Failure, PublishedComparison, Status, Verdict
from bob.evaluation import Evaluation, Update
from bob.intervals import mean, square_spread

_HEADERS = ("backbone", "task", "dataset", "score", "band", "Δ", "seeds", "verdict")


def failure_message(evaluation: Evaluation, *, store: str, repeat: str, word: str = "") -> str:
    """A few lines: what fell where, against which reference, and how to look closer.

    Args:
        evaluation: A judged case that failed.
        store: Tracking URI that holds the runs.
        repeat: Command that runs just this case.
        word: What that command lacks, such as a password.
    """
    case, verdict = evaluation.case, evaluation.verdict
    lines = [f"{case.setting} of {case.backbone.key} at scale {case.scale}: {verdict.reason}"]
    lines += [_comparison_line(comparison) for comparison in verdict.comparisons]
    if verdict.together:
        lines.append(_together_line(verdict.together))
    if verdict.comparisons or verdict.stale:
        seeds = _seeds(verdict.reference_seeds)
        seen = verdict.detectable
        sight = "" if seen is None else f"; sees a drop of {seen:.4f} in four cases of five"
        lines.append(f"  reference   {seeds}; {verdict.origin}{sight}")
    lines += [_published_line(published) for published in verdict.published]
    if verdict.scores:
        stage = ", the later ones extra because the first fell outside"
        stage = stage if verdict.stage == 2 else ""
        scores = ", ".join(f"{seed}: {score:.4f}" for seed, score in verdict.scores.items())
        lines.append(f"  {case.metric} by seed  {scores}{stage}")
    lines += [f"  note        {text}" for text in verdict.warnings]
    run_id = evaluation.run_id or next(reversed(evaluation.run_ids), None)
    if run_id:
        lines.append(f"  MLflow      run {run_id} in {store}")
    lines.append(f"  repeat      {repeat}")
    if word:
        lines.append(f"              ({word})")
    return "\n".join(lines)


def _comparison_line(comparison: Comparison) -> str:
    return (
        f"  {comparison.metric:<10}  {comparison.value:.4f}  "
        f"band [{comparison.low:.4f}, {comparison.high:.4f}]  "
        f"Δ {comparison.delta:+.4f} from {comparison.reference:.4f}  "
        f"{'nothing is random' if comparison.exact else f'z {comparison.z:+.1f}'}  "
        f"{comparison.status.value}"
    )


def _together_line(comparison: Comparison) -> str:
    side = "worse" if comparison.value < 0 else "better"
    return (
        f"  {comparison.metric:<10}  {abs(comparison.value):.2f} deviations {side} on average, of "
        f"which {-comparison.low:.2f} worse are expected  z {comparison.z:+.1f}  "
        f"{comparison.status.value}"
    )


def _published_line(published: PublishedComparison) -> str:
    return (
        f"  {published.metric:<10}  {published.value:.4f}  "
        f"published {published.published:.4f} ± {published.width:.4f}  "
        f"Δ {published.delta:+.4f}; {published.source}"
    )


def _seeds(seeds: Sequence[int]) -> str:
    if len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"{len(seeds)} seeds ({seeds[0]}..{seeds[-1]})"
    return f"{len(seeds)} seeds ({', '.join(map(str, seeds))})"


def repeat_command(node: Iterable[str], words: Iterable[str], *, backbones: Iterable[str]) -> str:
    """The shell command that runs one test again with the same options.

    Args:
        node: Words that select the test.
        words: Options of the command line that matter again; see ``bob/options/shell.py``.
        backbones: What was named, with the file of ``--checkpoint``.
    """
    named = [f"--backbone={spec}" for spec in backbones]
    return " ".join(shlex.quote(word) for word in ("pytest", *node, *words, *named))


def licence_lines(evaluations: Sequence[Evaluation]) -> list[str]:
    """Whose weights must not be used commercially, behind an empty line; none if all may be."""
    bound = {
        evaluation.case.backbone.key: evaluation.case.backbone.licence
        for evaluation in evaluations
        if evaluation.case.backbone.non_commercial
    }
    if not bound:
        return []
    names = ", ".join(f"{key} ({licence})" for key, licence in sorted(bound.items()))
    return ["", f"Non-commercial use only: {names}"]


def summary_rows(evaluations: Iterable[Evaluation]) -> list[dict[str, Any]]:
    """One record per evaluation for tables and JSON."""
    return [
        summary_row(evaluation.case, evaluation.verdict, evaluation.failure, evaluation.run_ids)
        for evaluation in evaluations
    ]


def summary_row(
    case: Case, verdict: Verdict, failure: Failure | None, runs: Iterable[str] = ()
) -> dict[str, Any]:
    """One record for tables and JSON.

    Args:
        case: What was judged.
        verdict: What was found.
        failure: Why there is no score, if there is none.
        runs: Ids of its MLflow runs.
    """
    return {
        "backbone": case.backbone.key,
        "task": case.task,
        "dataset": case.dataset.key,
        "metric": case.metric,
        "score": verdict.mean,
        "failure": failure.kind if failure else None,
        "runs": list(runs),
        **verdict_record(verdict),
    }


def table(evaluations: Sequence[Evaluation]) -> list[tuple[str, ...]]:
    """Header and one row per evaluation, as text cells.

    A column of published scores stands before the verdict when any evaluation has one.
    """
    rows = [_HEADERS, *(_row(evaluation) for evaluation in evaluations)]
    if not any(evaluation.verdict.published for evaluation in evaluations):
        return rows
    cells = ("published", *(_published_cell(evaluation) for evaluation in evaluations))
    return [(*row[:-1], cell, row[-1]) for row, cell in zip(rows, cells, strict=True)]


def _published_cell(evaluation: Evaluation) -> str:
    found = evaluation.verdict.published
    if not found:
        return "-"
    published = found[0]
    name = "" if published.metric == evaluation.case.metric else f"{published.metric} "
    apart = sum(not other.agrees for other in found)
    rest = f", {apart} of {len(found)} apart" if apart else ""
    return f"{name}{published.published:.4f} ({published.delta:+.4f}{rest})"


def _row(evaluation: Evaluation) -> tuple[str, ...]:
    case, verdict = evaluation.case, evaluation.verdict
    score = verdict.score
    word = verdict.status.value
    if evaluation.failure is not None and verdict.status is Status.FAIL:
        word = "error"
    elif evaluation.update is not None:
        word = "reference created" if evaluation.update.old is None else "reference updated"
    elif verdict.unchanged:
        word = "pass (unchanged)"
    elif verdict.stale:
        word = "stale reference"
    elif verdict.status is Status.PASS and score is not None and score.improved:
        word = "pass (improved)"
    elif verdict.status is Status.PASS and verdict.guards_little:
        word = "pass (guards little)"
    elif verdict.status is Status.FAIL and score is not None and score.status is not Status.FAIL:
        word = f"fail ({_worst_metric(evaluation)})"
    return (
        case.backbone.key,
        case.task,
        case.setting.split("/", 1)[1],
        "-" if verdict.mean is None else f"{case.metric} {verdict.mean:.4f}",
        "-" if score is None else f"[{score.low:.4f}, {score.high:.4f}]",
        "-" if score is None else f"{score.delta:+.4f}",
        str(len(verdict.scores)),
        word,
    )


def _worst_metric(evaluation: Evaluation) -> str:
    failing = [
        comparison for comparison in evaluation.verdict.deciding if comparison.status is Status.FAIL
    ]
    return failing[0].metric if failing else ""


def counts(evaluations: Iterable[Evaluation]) -> dict[str, int]:
    """Evaluations by verdict."""
    tally: dict[str, int] = {status.value: 0 for status in Status}
    for evaluation in evaluations:
        tally[evaluation.verdict.status.value] += 1
    return tally


def update_lines(update: Update) -> list[str]:
    """What writing a reference changed: old and new mean, z, seeds, drift since the anchor."""
    case, old, new = update.case, update.old, update.new
    lines = [f"{case.backbone.key} {case.setting}: {len(new.values)} seeds"]
    comparable = old is not None and old.protocol == new.protocol
    if old is not None and not comparable:
        lines[0] += "; the protocol changed, so the old values are not comparable"
    for judged in case.judged:
        after = new.metric(judged.name)
        text = f"{mean(after):.4f} (n={len(after)})"
        before = old.metric(judged.name) if old is not None and comparable else []
        if before:
            z = welch_z(before, after)
            text = f"{mean(before):.4f} (n={len(before)}) -> {text}, z {z:+.1f}"
        first = new.anchored(judged.name)
        if first and new.anchor.values != new.values:
            text += f"; {mean(after) - mean(first):+.4f} since {new.anchor.recorded}"
        lines.append(f"  {judged.name:<10}  {text}")
    return lines


def welch_z(before: Sequence[float], after: Sequence[float]) -> float:
    """Difference of two means in standard errors; 0 when neither sample has a spread."""
    error = sum(square_spread(group) / len(group) for group in (before, after) if len(group) > 1)
    difference = mean(after) - mean(before)
    return float(difference / error**0.5) if error else 0.0
