"""Whole runs into a store: what the live record and ``bob sync`` do alike."""

from __future__ import annotations

import getpass
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bob import __version__
from bob.case import Verdict
from bob.gitinfo import git_state
from bob.ledger.records import RESUMED, Recorded
from bob.tracking import projection
from bob.tracking.projection import RunContent, experiment_name
from bob.tracking.writer import INCOMPLETE, UNSENT, Writer

if TYPE_CHECKING:
    from mlflow.entities import Run

ENDED = ("FINISHED", "FAILED")
"""How a run ends of which there is all."""

SESSION_FACTS = (
    "bob.scale",
    "bob.version",
    "bob.bands",
    "bob.base_seed",
    RESUMED,
    "bob.git_dirty",
    "mlflow.source.type",
    "mlflow.source.name",
    "mlflow.source.git.commit",
    "mlflow.user",
)
"""Tags of a run that hold for all of its session."""

Sent = tuple[str, Recorded]
"""The id of a run and what came out of it."""


def session_facts(root: Path, scale: str) -> dict[str, str]:
    """What holds for every run of a session: scale, version, user, commit.

    Args:
        root: Folder whose repository is asked for its commit.
        scale: Key of the scale.
    """
    facts = {
        "bob.scale": scale,
        "bob.version": __version__,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": root.name,
    }
    with suppress(OSError, KeyError):  # an account without a name, as in some containers
        facts["mlflow.user"] = getpass.getuser()
    git = git_state(root)
    if git is not None:
        facts["mlflow.source.git.commit"] = git.commit
        facts["bob.git_dirty"] = str(git.dirty).lower()
    return facts


def common_tags(session: str, facts: Mapping[str, str]) -> dict[str, str]:
    """Tags that every run of a session has."""
    return {"bob.session": session, **facts}


def milliseconds(time: str) -> int:
    """A time in ISO 8601 as milliseconds since 1970."""
    return int(datetime.fromisoformat(time).timestamp() * 1000)


def began(recorded: Recorded) -> int:
    """When a run began, in milliseconds since 1970."""
    took = recorded.result.timings.get("total", 0.0)
    return milliseconds(recorded.time) - int(1000 * took)


def send_result(writer: Writer, recorded: Recorded, *, common: Mapping[str, str]) -> str:
    """A whole run of a result; gives its id.

    Args:
        writer: Where to.
        recorded: The result.
        common: Tags of its session.
    """
    case = recorded.result.case
    content = projection.started(case, role=recorded.role, entry=recorded.entry)
    run_id = writer.create(
        experiment_name(case.scale, case.task),
        projection.run_name(case),
        {**common, **content.tags},
        ticket=f"{recorded.session}/{recorded.entry}",
        start=began(recorded),
    )
    writer.add(run_id, RunContent(params=content.params, dataset=content.dataset))
    writer.log(run_id, projection.curve(recorded))
    writer.add(run_id, projection.finished(recorded))
    send_trials(writer, recorded, run_id, common=common)
    ended = milliseconds(recorded.time)
    writer.end(run_id, "FAILED" if recorded.result.failure else "FINISHED", at=ended)
    return run_id


def is_whole(run: Run, recorded: Recorded, *, trials: int) -> bool:
    """Whether a run has all that ``send_result`` gives; its end is the last thing that is told.

    Args:
        run: The run.
        recorded: What it is of.
        trials: Nested runs of settings that it has.
    """
    if lacks(run):
        return False
    return run.info.status in ENDED and trials == len(recorded.result.trials)


def lacks(run: Run) -> bool:
    """Whether its store did not take all of a run."""
    return bool(tag(run, UNSENT) or tag(run, INCOMPLETE))


def tag(run: Run, name: str) -> str:
    """A run's tag; empty where it has none of that name."""
    return str(run.data.tags.get(name, ""))


def send_trials(
    writer: Writer, recorded: Recorded, parent: str, *, common: Mapping[str, str]
) -> None:
    """A nested run for every setting of a grid that was tried.

    Args:
        writer: Where to.
        recorded: The result that they belong to.
        parent: Id of its run.
        common: Tags of the session.
    """
    case = recorded.result.case
    for number, trial in enumerate(recorded.result.trials):
        content = projection.tried(case, trial, parent=parent)
        run_id = writer.create(
            experiment_name(case.scale, case.task),
            projection.trial_name(case, trial),
            {**common, **content.tags},
            ticket=f"{common['bob.session']}/{recorded.entry}/trial-{number}",
        )
        writer.add(run_id, RunContent(params=content.params, metrics=content.metrics))
        writer.end(run_id, "FAILED" if trial.failure else "FINISHED")


def raise_up(writer: Writer, run_id: str) -> None:
    """Make a run stand for its case that was one of several seeds under a parent."""
    writer.untag(run_id, "mlflow.parentRunId")
    writer.tag(run_id, {"bob.level": "case"})


def send_verdict(
    writer: Writer,
    sent: Sequence[Sent],
    verdict: Verdict,
    *,
    name: str,
    common: Mapping[str, str],
    told: Container[str] = (),
) -> str:
    """What runs mean: on the run itself, or on a parent of several, which become nested.

    Args:
        writer: Where to.
        sent: The runs, in the order of their seeds; at least one.
        verdict: What they mean together.
        name: Of the verdict in the ledger.
        common: Tags of the session.
        told: Metrics that a single run has already, from an attempt that was cut off.

    Returns:
        Id of the run that stands for the case.
    """
    part = projection.judged(verdict)
    if len(sent) == 1:
        run_id = sent[0][0]
        metrics = tuple(point for point in part.metrics if point[0] not in told)
        writer.add(run_id, RunContent(metrics=metrics, tags=part.tags))
        return run_id
    recorded = [entry for _, entry in sent]
    case = recorded[0].result.case
    content = projection.parent_of(recorded, verdict, name=name)
    parent = writer.create(
        experiment_name(case.scale, case.task),
        case.name,
        {**common, "bob.verdict_name": name},
        ticket=f"{common['bob.session']}/{name}",
        start=min(began(entry) for entry in recorded),
    )
    for run_id, _ in sent:
        tags = {**projection.nested(parent).tags, **part.tags}
        writer.add(run_id, RunContent(tags=tags))
    writer.add(parent, content)
    failed = any(entry.result.failure for entry in recorded)
    ended = max(milliseconds(entry.time) for entry in recorded)
    writer.end(parent, "FAILED" if failed else "FINISHED", at=ended)
    return parent
