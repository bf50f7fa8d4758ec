"""Runs of earlier sessions whose results are reused: found in a store, or made good there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bob.case import Verdict
from bob.ledger.records import Recorded
from bob.shown import line
from bob.tracking.process import is_alive_elsewhere
from bob.tracking.projection import experiment_name
from bob.tracking.sending import common_tags, is_whole, send_result, tag
from bob.tracking.writer import Writer

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass
class _Found:
    """Runs of a session in an experiment, by what they are of."""

    of_entry: dict[str, list[Run]] = field(default_factory=dict)
    below: dict[str, list[Run]] = field(default_factory=dict)


@dataclass
class Adoption:
    """Runs of earlier sessions, which are not made a second time.

    Attributes:
        writer: The store.
    """

    writer: Writer
    _found: dict[tuple[str, str], _Found] = field(default_factory=dict)
    _tags: dict[str, dict[str, str]] = field(default_factory=dict)

    def adopt(self, recorded: Recorded) -> str | None:
        """Id of the run of a result; one that lacks something is made anew.

        Returns:
            None where another process is still writing it.
        """
        there = self._of(recorded)
        runs = there.of_entry.get(recorded.entry, [])
        whole = [
            run
            for run in runs
            if is_whole(run, recorded, trials=len(there.below.get(run.info.run_id, ())))
        ]
        if whole:
            run = whole[0]
            self._tags[run.info.run_id] = dict(run.data.tags)
            return str(run.info.run_id)
        if any(run.info.status == "RUNNING" and is_alive_elsewhere(run.data.tags) for run in runs):
            return None
        for run in runs:
            self.writer.delete_with_nested(run.info.run_id)
        common = common_tags(recorded.session, recorded.facts)
        run_id = send_result(self.writer, recorded, common=common)
        self._tags[run_id] = {"bob.level": "case"}
        return run_id

    def standing(self, run_ids: Sequence[str], verdict: Verdict) -> str | None:
        """The run that stands for a case already: its verdict is there, or one over more seeds.

        Args:
            run_ids: The runs that the verdict rests on.
            verdict: What they mean.
        """
        if any(run_id not in self._tags for run_id in run_ids):
            return None
        tags = [self._tags[run_id] for run_id in run_ids]
        parents = {each.get("mlflow.parentRunId", "") for each in tags}
        if len(parents) != 1:
            return None
        (parent,) = parents
        if parent and self._seeds_below(parent) > len(run_ids):
            return parent
        told = (verdict.status.value, line(verdict.reason, limit=200))
        for each in tags:
            reason = line(each.get("bob.reason", ""), limit=200)
            if (each.get("bob.verdict", ""), reason) != told:
                return None
        return parent or (run_ids[0] if len(run_ids) == 1 else None)

    def release(self, run_ids: Sequence[str]) -> None:
        """Delete parents whose runs have all been put under a new one.

        Args:
            run_ids: The runs that were.
        """
        for parent in {self._tags.get(run_id, {}).get("mlflow.parentRunId") for run_id in run_ids}:
            if parent:
                self.writer.delete(parent)

    def _seeds_below(self, parent: str) -> int:
        return sum(
            tag(run, "mlflow.parentRunId") == parent
            for found in self._found.values()
            for runs in found.of_entry.values()
            for run in runs
        )

    def _of(self, recorded: Recorded) -> _Found:
        case = recorded.result.case
        name = experiment_name(case.scale, case.task)
        key = recorded.session, name
        if key not in self._found:
            found = self._found[key] = _Found()
            self.writer.experiment(name)  # a page of the summary leads there
            for run in self.writer.runs(recorded.session, [name]):
                if tag(run, "bob.role") == "trial":
                    found.below.setdefault(tag(run, "mlflow.parentRunId"), []).append(run)
                elif tag(run, "bob.entry"):
                    found.of_entry.setdefault(tag(run, "bob.entry"), []).append(run)
        return self._found[key]
