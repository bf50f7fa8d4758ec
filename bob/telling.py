"""What the pytest shell tells of a case: to hooks, to reports, and of a case that was cut short."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import pytest

from bob.case import Failure, Status
from bob.shown import block, line

if TYPE_CHECKING:
    from bob.evaluation import Evaluation

SECTION = "backbone traceback"
"""Title of the section that holds the traceback of a case that failed."""


def failure_of(error: BaseException) -> Failure:
    """Why a case has no verdict that something outside of its run ended.

    Args:
        error: What was raised while the case was waited for: by a plugin's time limit, by the
            user's code, by a disk.
    """
    kind = "error" if isinstance(error, Exception) else "stopped"
    if isinstance(error, pytest.skip.Exception):
        kind = "unavailable"
    text = "".join(traceback.format_exception(error))
    return Failure(kind, f"{type(error).__name__}: {error}", text)


def remarks_of(evaluation: Evaluation) -> list[str]:
    """What to warn of although the test passes."""
    verdict = evaluation.verdict
    soft = (Status.INCONCLUSIVE, Status.NO_REFERENCE)
    return [*verdict.warnings, *([verdict.reason] if verdict.status in soft else [])]


def properties_of(evaluation: Evaluation) -> list[tuple[str, object]]:
    """Values for ``--junitxml``."""
    case, verdict = evaluation.case, evaluation.verdict
    pairs: list[tuple[str, object]] = [
        ("bob.case", case.id),
        ("bob.run_keys", " ".join(result.run_key for result in evaluation.results)),
        ("bob.verdict", verdict.status.value),
        ("bob.seeds", len(verdict.scores)),
    ]
    if verdict.mean is not None:
        pairs.append((f"bob.{case.metric}", round(verdict.mean, 6)))
    for comparison in verdict.deciding:
        band = f"[{comparison.low:.6f}, {comparison.high:.6f}]"
        pairs.append((f"bob.{comparison.metric}.band", band))
        pairs.append((f"bob.{comparison.metric}.z", round(comparison.z, 3)))
    for published in verdict.published:
        pairs.append((f"bob.{published.metric}.published", round(published.published, 6)))
    if evaluation.run_id or evaluation.run_ids:
        pairs.append(("bob.mlflow_run", evaluation.run_id or evaluation.run_ids[-1]))
    return pairs


def forget_earlier(item: pytest.Item) -> None:
    """Take out what an earlier run of the same test told, where a plugin runs it again."""
    item.user_properties[:] = [
        pair for pair in item.user_properties if not pair[0].startswith("bob.")
    ]
    item._report_sections[:] = [part for part in item._report_sections if part[1] != SECTION]


def tell_hooks(item: pytest.Item, evaluation: Evaluation) -> list[str]:
    """Call ``pytest_bob_evaluated`` of everybody; what one raises stops no other.

    Returns:
        A remark on each that raised. ``pytest.fail`` and ``pytest.skip`` in a hook are raised
        when all have been called.
    """
    manager = item.config.pluginmanager
    implementations = item.config.hook.pytest_bob_evaluated.get_hookimpls()
    remarks: list[str] = []
    decided: BaseException | None = None
    for implementation in reversed(implementations):
        others = [each.plugin for each in implementations if each is not implementation]
        caller = manager.subset_hook_caller("pytest_bob_evaluated", others)
        try:
            caller(config=item.config, evaluation=evaluation)
        except (pytest.fail.Exception, pytest.skip.Exception) as error:
            decided = decided or error
        except Exception as error:
            text = "".join(traceback.format_exception(error))
            item.add_report_section("call", "pytest_bob_evaluated", block(text))
            name = line(implementation.plugin_name)
            remarks.append(
                f"hook pytest_bob_evaluated of {name} raised {type(error).__name__}: {line(error)}"
            )
    if decided is not None:
        raise decided
    return remarks


def traceback_of(failure: Failure) -> str:
    """The traceback of a failure for a report."""
    return block(failure.traceback, limit=8000, whole="result.json of the run in mlruns/ledger")
