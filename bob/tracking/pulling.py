"""Results that an MLflow store has and the ledger has not, brought into the ledger."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bob.case import Case
from bob.json_data import parse_json
from bob.ledger.ledger import Ledger
from bob.ledger.reading import Unreadable, checked_version, recorded_of
from bob.ledger.records import Damage
from bob.tracking.projection import LEDGER_FILE, experiment_name
from bob.tracking.sending import SESSION_FACTS, lacks, tag
from bob.tracking.writer import Writer

if TYPE_CHECKING:
    from mlflow.entities import Run

_ARRAYS = ("outcomes.npz", "queries.npz")

_Key = tuple[str, str, str]
"""Id of the case, key of the backbone, role."""


@dataclass
class StoreResults:
    """Results in a store, by what they are of.

    Attributes:
        writer: The store.
        ledger: Where results are brought to.
        damaged: Runs whose files cannot be read.
    """

    writer: Writer
    ledger: Ledger
    damaged: list[Damage] = field(default_factory=list)
    _runs: dict[str, dict[_Key, list[Run]]] = field(default_factory=dict)

    def __call__(self, case: Case, role: str) -> Path | None:
        """Bring the newest result of a case into the ledger.

        Pictures and tables stay in the store.

        Returns:
            Its folder; none where the store has no whole result.

        Raises:
            Exception: The store does not answer.
            BobError: The ledger cannot be written.
        """
        for run in self._of(case, role):
            try:
                return self._bring(run)
            except (Unreadable, ValueError, KeyError, OSError) as error:
                self.damaged.append(Damage(Path(f"run {run.info.run_id}"), str(error)))
        return None

    def _of(self, case: Case, role: str) -> list[Run]:
        """Runs of a case that have a score and lack nothing, the newest first."""
        name = experiment_name(case.scale, case.task)
        if name not in self._runs:
            found: dict[_Key, list[Run]] = {}
            for run in self.writer.runs_in(name, "attributes.status = 'FINISHED'"):
                if tag(run, "bob.entry") and tag(run, "bob.run_key") and not lacks(run):
                    key = (tag(run, "bob.case"), tag(run, "bob.backbone"), tag(run, "bob.role"))
                    found.setdefault(key, []).append(run)
            self._runs[name] = found
        runs = self._runs[name].get((case.id, case.backbone.key, role), [])
        return sorted(runs, key=lambda run: run.info.end_time or 0, reverse=True)

    def _bring(self, run: Run) -> Path:
        files = self._downloaded(run.info.run_id)
        facts = {name: tag(run, name) for name in SESSION_FACTS if tag(run, name)}
        arrays: dict[str, NDArray[Any]] = {}
        for name in _ARRAYS:
            if name in files:
                arrays |= dict(np.load(io.BytesIO(files[name]), allow_pickle=False))
        record = checked_version(parse_json(files[LEDGER_FILE].decode()), LEDGER_FILE)
        recorded = recorded_of(record, arrays, {}, facts)
        if not (self.ledger.root / recorded.session / "session.json").is_file():
            began = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
            time = began.isoformat(timespec="milliseconds")
            self.ledger.open_session(recorded.session, facts, time=time)
        return self.ledger.write(recorded)

    def _downloaded(self, run_id: str) -> dict[str, bytes]:
        """The ledger's record of a run and its arrays, by name."""
        with tempfile.TemporaryDirectory(prefix="bob-pull-") as folder:
            there = self.writer.artifacts(run_id)
            if LEDGER_FILE not in there:
                raise Unreadable(
                    f"has no {LEDGER_FILE}; it was recorded by an older version of bob"
                )
            wanted = [name for name in (LEDGER_FILE, *_ARRAYS) if name in there]
            paths = {name: self.writer.download(run_id, name, Path(folder)) for name in wanted}
            return {name: path.read_bytes() for name, path in paths.items()}
