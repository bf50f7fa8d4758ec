"""Results that an MLflow store has and the ledger has not, brought into the ledger."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from bob.case import Case
from bob.json_data import parse_json
from bob.ledger.ledger import Ledger
from bob.ledger.reading import (
    MALFORMED,
    MOST_BYTES,
    Unreadable,
    arrays_in,
    check_names,
    check_size,
    checked_version,
    is_whole,
    recorded_of,
)
from bob.ledger.records import Damage, Recorded
from bob.shown import line
from bob.tracking.projection import LEDGER_FILE, experiment_name
from bob.tracking.sending import SESSION_FACTS, lacks, tag
from bob.tracking.writer import Writer

if TYPE_CHECKING:
    from mlflow.entities import Run

_ARRAYS = ("outcomes.npz", "queries.npz", "contributions.npz", "detections.npz")
_LARGEST = {LEDGER_FILE: 64 * 2**20, **dict.fromkeys(_ARRAYS, MOST_BYTES)}
"""Bytes of a file that is read."""
_SESSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]*")
"""Names of sessions that are folders' names, whoever gave them."""

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

    def __call__(self, case: Case, role: str, *, known: Collection[Path] = ()) -> Path | None:
        """Bring the newest result of a case into the ledger.

        Pictures and tables stay in the store. One that another session brings meanwhile is there.

        Args:
            case: What is asked for.
            role: ``check`` or ``reference``.
            known: Folders of the ledger whose results were looked at.

        Returns:
            Its folder; none where the store has no other whole result.

        Raises:
            Exception: The store does not answer.
            BobError: The ledger cannot be written.
        """
        for run in self._of(case, role):
            there = self._there(tag(run, "bob.session"), tag(run, "bob.entry"))
            if there is not None:
                if there in known:
                    continue
                return there
            try:
                recorded = _recorded(run, self._downloaded(run.info.run_id))
            except Unreadable as error:
                damage = Damage(Path(f"run {run.info.run_id}"), str(error))
                if damage not in self.damaged:
                    self.damaged.append(damage)
                continue
            return self._keep(run, recorded)
        return None

    def _there(self, session: str, entry: str) -> Path | None:
        """The folder of an entry that the ledger has, whole."""
        if _SESSION.fullmatch(session) is None or "/" in entry:
            return None
        folder = self.ledger.root / session / entry
        return folder if is_whole(folder) else None

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

    def _keep(self, run: Run, recorded: Recorded) -> Path:
        facts = recorded.facts
        if not (self.ledger.root / recorded.session / "session.json").is_file():
            began = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
            time = began.isoformat(timespec="milliseconds")
            self.ledger.open_session(recorded.session, facts, time=time)
        return self.ledger.write(recorded, replacing=False)

    def _downloaded(self, run_id: str) -> dict[str, bytes]:
        """The ledger's record of a run and its arrays, by name.

        Raises:
            Unreadable: One is larger than any that bob sends.
        """
        with tempfile.TemporaryDirectory(prefix="bob-pull-") as folder:
            there = self.writer.artifacts(run_id)
            wanted = [name for name in _LARGEST if name in there]
            for name in wanted:
                check_size(name, there[name], most=_LARGEST[name])
            paths = {name: self.writer.download(run_id, name, Path(folder)) for name in wanted}
            for name, path in paths.items():
                check_size(name, path.stat().st_size, most=_LARGEST[name])
            return {name: path.read_bytes() for name, path in paths.items()}


def _recorded(run: Run, files: Mapping[str, bytes]) -> Recorded:
    """The result of a run, which is what the run is said to be of.

    Raises:
        Unreadable: Its files are damaged, or of something else.
    """
    if LEDGER_FILE not in files:
        raise Unreadable(f"has no {LEDGER_FILE}; it was recorded by an older version of bob")
    facts = {name: tag(run, name) for name in SESSION_FACTS if tag(run, name)}
    arrays: dict[str, NDArray[Any]] = {}
    try:
        for name in _ARRAYS:
            if name in files:
                arrays |= arrays_in(files[name], name)
        record = checked_version(parse_json(files[LEDGER_FILE]), LEDGER_FILE)
    except MALFORMED as error:
        raise Unreadable(f"its files are damaged ({line(repr(error))})") from None
    recorded = recorded_of(record, arrays, {}, facts)
    check_names(recorded, session=tag(run, "bob.session"), entry=tag(run, "bob.entry"))
    if _SESSION.fullmatch(recorded.session) is None:
        raise Unreadable(f"{line(recorded.session)!r} is no name of a session")
    told = recorded.result.case.id, recorded.result.run_key
    if told != (tag(run, "bob.case"), tag(run, "bob.run_key")):
        raise Unreadable(f"{LEDGER_FILE} is of another case or run key than its run")
    return recorded
