"""Results as files: one folder a session, one folder a result in it.

``<root>/<session>/session.json``, ``<entry>/result.json`` with ``arrays.npz`` and ``files/`` beside
it, ``verdicts/<name>.json``. Everything is written elsewhere, brought to the disk, and renamed into
place, so that what is there is whole.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from bob import __version__
from bob.artifacts.files import packed
from bob.case import Case, Result, Verdict
from bob.errors import BobError
from bob.hashing import digest_of, file_name
from bob.ledger.plain import (
    case_from_plain,
    case_to_plain,
    jsonable,
    result_arrays,
    result_from_plain,
    result_to_plain,
    verdict_from_plain,
    verdict_to_plain,
)

SCHEMA = 1
"""Version of the files; one that is newer than the reader's is named and left alone."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A result as the ledger holds it.

    Attributes:
        entry: Name of its folder, unique within the session and known before the case runs.
        session: The session that ran it.
        role: ``check`` or ``reference``.
        time: When it was finished, ISO 8601 in UTC.
        curve: What was reported of each epoch while it ran: epoch counted from 1, and metrics.
        version: Of the suite that ran it.
        facts: Of the session: scale, commit, user.
    """

    entry: str
    session: str
    role: str
    time: str
    result: Result
    curve: tuple[tuple[int, Mapping[str, float]], ...] = ()
    version: str = __version__
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A verdict as the ledger holds it.

    Attributes:
        name: Of its file, unique within the session.
        entries: Results it rests on, by entry, in the order they ran.
    """

    name: str
    session: str
    entries: tuple[str, ...]
    verdict: Verdict
    role: str = "check"


@dataclass(frozen=True)
class Damage:
    """An entry that cannot be read.

    Attributes:
        path: The folder or file.
        reason: What is wrong, and what to do.
    """

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass
class Ledger:
    """The ledger under a folder; several sessions may write to it at once.

    Attributes:
        root: Usually ``mlruns/ledger``.
        damaged: Entries that the last reading had to leave out.
    """

    root: Path
    damaged: list[Damage] = field(default_factory=list)

    def open_session(self, session: str, facts: Mapping[str, str]) -> None:
        """Note a session and what holds for all of its results.

        Raises:
            BobError: The folder cannot be written to.
        """
        record = {"schema": SCHEMA, "session": session, "facts": dict(facts), "time": now()}
        try:
            (self.root / session).mkdir(parents=True, exist_ok=True)
            _write_file(self.root / session / "session.json", _text(record))
        except OSError as error:
            raise BobError(
                f"Cannot write to {self.root} ({error.strerror or error}), where every result is "
                "kept first. Nothing was run. Make it writable, or run in another folder."
            ) from None

    def write(self, recorded: Recorded) -> Path:
        """Write a result; when this returns it is on the disk, whole.

        Writing an entry again replaces it.

        Raises:
            BobError: The disk is full or the folder is not writable.
        """
        folder = self.root / recorded.session / recorded.entry
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
            try:
                _fill(made, recorded)
                os.chmod(made, 0o755)
                if folder.exists():
                    shutil.rmtree(folder)
                os.rename(made, folder)
                _sync_folder(folder.parent)
            except BaseException:
                shutil.rmtree(made, ignore_errors=True)
                raise
        except OSError as error:
            raise BobError(
                f"The result of {recorded.result.case.name} could not be kept under "
                f"{folder.parent} ({error.strerror or error}). Free space there, or make it "
                "writable."
            ) from error
        return folder

    def write_verdict(self, judgement: Judgement) -> Path:
        """Write what a case's results mean; replaces an earlier verdict of the same name."""
        path = self.root / judgement.session / "verdicts" / f"{judgement.name}.json"
        record = {
            "schema": SCHEMA,
            "name": judgement.name,
            "session": judgement.session,
            "role": judgement.role,
            "entries": list(judgement.entries),
            "verdict": verdict_to_plain(judgement.verdict),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_file(path, _text(record))
        return path

    def write_summary(self, session: str, summary: Mapping[str, Any]) -> None:
        """Write what a session came to: its status, counts and tables."""
        record = {"schema": SCHEMA, **summary}
        _write_file(self.root / session / "summary.json", _text(record))

    def sessions(self) -> list[str]:
        """Names of the sessions, oldest first."""
        if not self.root.is_dir():
            return []
        folders = [folder for folder in self.root.iterdir() if (folder / "session.json").is_file()]
        found = [(self.facts(folder.name)[1], folder.name) for folder in folders]
        return [name for _, name in sorted(found)]

    def facts(self, session: str) -> tuple[dict[str, str], str]:
        """What holds for a session, and when it began; empty where its file cannot be read."""
        path = self.root / session / "session.json"
        try:
            record = _checked(path)
            return dict(record["facts"]), str(record["time"])
        except _Unreadable as error:
            self._damage(path, str(error))
            return {}, ""

    def summary(self, session: str) -> dict[str, Any] | None:
        """What ``write_summary`` wrote; none where the session has not ended."""
        path = self.root / session / "summary.json"
        if not path.is_file():
            return None
        try:
            return _checked(path)
        except _Unreadable as error:
            self._damage(path, str(error))
            return None

    def entries(self, session: str | None = None) -> Iterator[Recorded]:
        """Every result, session by session, in the order they were finished.

        What cannot be read is left out and named in ``damaged``.
        """
        for name in [session] if session is not None else self.sessions():
            if not (self.root / name).is_dir():
                continue
            facts, _ = self.facts(name)
            found = []
            for folder in sorted((self.root / name).iterdir()):
                if folder.name.startswith(".") or not folder.is_dir() or folder.name == "verdicts":
                    continue
                try:
                    found.append(_read(folder, facts))
                except _Unreadable as error:
                    self._damage(folder, str(error))
            yield from sorted(found, key=lambda recorded: (recorded.time, recorded.entry))

    def verdicts(self, session: str) -> Iterator[Judgement]:
        """Every verdict of a session, by name."""
        for path in sorted((self.root / session / "verdicts").glob("*.json")):
            try:
                record = _checked(path)
                yield Judgement(
                    name=record["name"],
                    session=record["session"],
                    role=record["role"],
                    entries=tuple(record["entries"]),
                    verdict=verdict_from_plain(record["verdict"]),
                )
            except _Unreadable as error:
                self._damage(path, str(error))
            except (KeyError, TypeError, ValueError) as error:
                self._damage(path, f"is not a verdict ({error!r}); move it away")

    def _damage(self, path: Path, reason: str) -> None:
        damage = Damage(path, reason)
        if damage not in self.damaged:
            self.damaged.append(damage)


def entry_name(case: Case, role: str) -> str:
    """Name of a run's folder: readable, and one for each run of a session."""
    key = digest_of([case.id, case.backbone.key, case.scale])[:8]
    return f"{case.task}-{file_name(case.name)}-s{case.seed}-{role}-{key}"


def verdict_name(case: Case) -> str:
    """Name of a case's verdict within a session."""
    key = digest_of([case.id, case.backbone.key, case.scale])[:8]
    return f"{case.task}-{file_name(case.name)}-{key}"


def now() -> str:
    """The time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class _Unreadable(Exception):
    """Why a file is left out, in words for the user."""


def _fill(folder: Path, recorded: Recorded) -> None:
    files = {f"files/{name}": content for name, content in recorded.result.files.items()}
    arrays = result_arrays(recorded.result)
    if arrays:
        files["arrays.npz"] = packed(arrays)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        _write_new(folder / name, content)
    record = {
        "schema": SCHEMA,
        "entry": recorded.entry,
        "session": recorded.session,
        "role": recorded.role,
        "time": recorded.time,
        "version": recorded.version,
        "case": case_to_plain(recorded.result.case),
        "result": result_to_plain(recorded.result),
        "curve": [[epoch, jsonable(values)] for epoch, values in recorded.curve],
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    _write_new(folder / "result.json", _text(record))
    _sync_folder(folder)


def _read(folder: Path, facts: Mapping[str, str]) -> Recorded:
    record = _checked(folder / "result.json")
    try:
        contents = {
            name: _content(folder, name, digest) for name, digest in record["files"].items()
        }
        packed = contents.pop("arrays.npz", None)
        arrays = dict(np.load(io.BytesIO(packed), allow_pickle=False)) if packed else {}
        files = {name.removeprefix("files/"): content for name, content in contents.items()}
        case = case_from_plain(record["case"])
        if case.id != record["case"]["id"]:
            raise _Unreadable(
                f"was run as case {record['case']['id']}, which this version of bob calls {case.id}"
            )
        return Recorded(
            entry=record["entry"],
            session=record["session"],
            role=record["role"],
            time=record["time"],
            version=record["version"],
            facts=facts,
            result=result_from_plain(case, record["result"], arrays, files),
            curve=tuple(
                (int(epoch), {name: float(value) for name, value in values.items()})
                for epoch, values in record["curve"]
            ),
        )
    except BobError as error:
        raise _Unreadable(str(error)) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise _Unreadable(f"{where}: {first['msg']}; it is of another version of bob") from None
    except (KeyError, TypeError, ValueError) as error:
        raise _Unreadable(f"result.json is not a result ({error!r}); move it away") from None


def _content(folder: Path, name: str, digest: str) -> bytes:
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise _Unreadable(
            f"{name} cannot be read ({error.strerror}); move the entry away"
        ) from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise _Unreadable(f"{name} is not what was written; move the entry away and run it again")
    return content


def _checked(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _Unreadable(f"{path.name} cannot be read ({error.strerror})") from None
    except ValueError:
        raise _Unreadable(f"{path.name} is cut off or not JSON; move it away") from None
    schema = record.get("schema") if isinstance(record, dict) else None
    if not isinstance(schema, int):
        raise _Unreadable(f"{path.name} does not say its version; it is none of bob's")
    if schema > SCHEMA:
        raise _Unreadable(
            f"{path.name} is of version {schema}, and this bob reads {SCHEMA}; update bob"
        )
    found: dict[str, Any] = record
    return found


def _text(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, indent=1, allow_nan=False) + "\n").encode()


def _write_new(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _write_file(path: Path, content: bytes) -> None:
    """Replace a file in one step."""
    handle, name = tempfile.mkstemp(prefix=".writing-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
