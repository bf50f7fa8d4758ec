"""Runs of earlier sessions whose results are reused: found in a store, or made good there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bob.case import Verdict
from bob.ledger.records import Recorded
from bob.shown import line
from bob.tracking.client import in_turn
from bob.tracking.process import is_alive_elsewhere, is_dead
from bob.tracking.projection import experiment_name
from bob.tracking.sending import ENDED, common_tags, is_whole, lacks, raise_up, send_result, tag
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
    _experiments: dict[str, str] = field(default_factory=dict)

    def adopt(self, recorded: Recorded) -> str | None:
        """Id of the run of a result; one that lacks something is made anew.

        Returns:
            None where another process is still writing it.
        """
        there = self._of(recorded)
        whole = self._whole(recorded, there.of_entry.get(recorded.entry, ()), there.below)
        if whole:
            return self._known(whole[0])
        with in_turn(self.writer.destination):
            return self._made_good(recorded)

    def _made_good(self, recorded: Recorded) -> str | None:
        """Id of the run of a result that the store lacked when it was looked through.

        Another session may have sent it since. Where one does so now, on a machine that does not
        wait for this one, both leave the run with the lesser id.
        """
        runs, below = self._now(recorded)
        whole = self._whole(recorded, runs, below)
        if whole:
            return self._known(whole[0])
        if any(run.info.status == "RUNNING" and is_alive_elsewhere(run.data.tags) for run in runs):
            return None
        for run in runs:
            self.writer.delete_with_nested(run.info.run_id)
        common = common_tags(recorded.session, recorded.facts)
        made = send_result(self.writer, recorded, common=common)
        twins = [run for run in self._now(recorded)[0] if _may_stand(run, made)]
        kept = min(twins, key=lambda run: str(run.info.run_id))
        for run in twins:
            run_id = run.info.run_id
            if run is not kept and (run_id == made or run.info.status in ENDED):
                self.writer.delete_with_nested(run_id)
        return self._known(kept) if kept.info.status in ENDED else None

    @staticmethod
    def _whole(
        recorded: Recorded, runs: Sequence[Run], below: Mapping[str, Sequence[Run]]
    ) -> list[Run]:
        return [
            run
            for run in runs
            if is_whole(run, recorded, trials=len(below.get(run.info.run_id, ())))
        ]

    def _known(self, run: Run) -> str:
        self._tags.setdefault(run.info.run_id, dict(run.data.tags))
        self._experiments[run.info.run_id] = run.info.experiment_id
        return str(run.info.run_id)

    def _now(self, recorded: Recorded) -> tuple[list[Run], dict[str, list[Run]]]:
        """The runs of a result as the store has them now, and those of settings below each."""
        case = recorded.result.case
        known = [self.writer.experiment(experiment_name(case.scale, case.task))]
        session = f"tags.`bob.session` = '{recorded.session}'"
        runs = self.writer.search(known, f"{session} and tags.`bob.entry` = '{recorded.entry}'")
        below = {}
        for run in runs if recorded.result.trials else ():
            run_id = run.info.run_id
            below[run_id] = self.writer.search(known, f"tags.`mlflow.parentRunId` = '{run_id}'")
        return runs, below

    @contextmanager
    def in_turn(self, run_ids: Sequence[str]) -> Iterator[None]:
        """Say what runs mean while no other session does; runs of earlier ones are looked up again.

        Args:
            run_ids: The runs that a verdict rests on.
        """
        earlier = [run_id for run_id in run_ids if run_id in self._tags]
        if not earlier:
            yield
            return
        with in_turn(self.writer.destination):
            named = ", ".join(f"'{run_id}'" for run_id in earlier)
            for run in self._search(earlier, f"attributes.run_id IN ({named})"):
                self._tags[run.info.run_id] = dict(run.data.tags)
            yield

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
        if parent:
            below = self._below(parent, run_ids)
            if not self._is_whole(parent, run_ids) or not below >= set(run_ids):
                return None
            if len(below) > len(run_ids):
                return parent
        told = (verdict.status.value, line(verdict.reason, limit=200))
        for each in tags:
            reason = line(each.get("bob.reason", ""), limit=200)
            if (each.get("bob.verdict", ""), reason) != told:
                return None
        return parent or (run_ids[0] if len(run_ids) == 1 else None)

    def stand_alone(self, run_id: str) -> None:
        """Take a run from under its parent, if it has one, so that it stands for its case."""
        if self._tags.get(run_id, {}).get("mlflow.parentRunId"):
            raise_up(self.writer, run_id)

    def judged(self, run_ids: Sequence[str], top: str, verdict: Verdict) -> None:
        """Know a verdict that was sent; parents that have no run left go to the trash.

        Args:
            run_ids: The runs that it rests on.
            top: The run that stands for the case.
            verdict: What they mean.
        """
        for run_id in run_ids:
            tags = self._tags.get(run_id)
            if tags is None:
                continue
            parent = tags.get("mlflow.parentRunId")
            if parent and parent != top and not self._below(parent, run_ids):
                self.writer.delete(parent)
            tags["mlflow.parentRunId"] = top if len(run_ids) > 1 else ""
            tags |= {"bob.verdict": verdict.status.value, "bob.reason": verdict.reason}

    def _below(self, parent: str, run_ids: Sequence[str]) -> set[str]:
        """Runs under a parent of some runs, as the store has them now."""
        found = self._search(run_ids, f"tags.`mlflow.parentRunId` = '{parent}'")
        return {run.info.run_id for run in found}

    def _is_whole(self, parent: str, run_ids: Sequence[str]) -> bool:
        """Whether a parent of some runs is there, was ended and lacks nothing."""
        found = self._search(run_ids, f"attributes.run_id = '{parent}'")
        return any(run.info.status in ENDED and not lacks(run) for run in found)

    def _search(self, run_ids: Sequence[str], query: str) -> list[Run]:
        known = {self._experiments[run] for run in run_ids if run in self._experiments}
        return self.writer.search(sorted(known), query)

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


def _may_stand(run: Run, made: str) -> bool:
    """Whether a run of a result is the one that this process made, or will stand as well as it."""
    if run.info.run_id == made:
        return True
    going_on = run.info.status == "RUNNING" and not is_dead(run.data.tags)
    return going_on or (run.info.status in ENDED and not lacks(run))
