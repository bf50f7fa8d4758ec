"""Files of the ledger read back, whole or not at all."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from bob.errors import BobError
from bob.hashing import digest_of
from bob.json_data import parse_json
from bob.ledger.forms import check_summary, moment, named_texts, text, texts
from bob.ledger.plain import case_from_plain, result_from_plain, verdict_from_plain
from bob.ledger.records import SCHEMA, Judgement, Recorded, is_name_of
from bob.regular_files import inside, read_regular
from bob.shown import line
from bob.sizes import show_size

MALFORMED = (
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading raises where data have another form than they should."""

MOST_BYTES = 2**30
"""What the arrays of one file may be unpacked to; half a million detections are 10 MB."""


class Unreadable(Exception):
    """Why a file is left out, in words for the user."""


def read_entry(folder: Path, facts: Mapping[str, str]) -> Recorded:
    """The result in a folder, with the facts of its session.

    Raises:
        Unreadable: It is cut off, was changed, or is of another version.
    """
    record = read_record(folder / "result.json")
    try:
        contents = {
            name: _content(folder, name, digest) for name, digest in record["files"].items()
        }
        packed = contents.pop("arrays.npz", None)
        arrays = _arrays(packed) if packed else {}
        files = {name.removeprefix("files/"): content for name, content in contents.items()}
    except MALFORMED as error:
        raise _no_result(error) from None
    return recorded_of(record, arrays, files, facts)


def is_whole(folder: Path) -> bool:
    """Whether there is a result in a folder, and it can be read."""
    try:
        read_entry(folder, {})
    except Unreadable:
        return False
    return True


def _arrays(packed: bytes) -> dict[str, NDArray[Any]]:
    try:
        return arrays_in(packed, "arrays.npz")
    except Unreadable as error:
        raise Unreadable(f"{error}; move the entry away") from None


def arrays_in(packed: bytes, name: str) -> dict[str, NDArray[Any]]:
    """The arrays of an archive of NumPy's, by name; whatever else is wrong is of ``MALFORMED``.

    Args:
        packed: The archive.
        name: Of its file.

    Raises:
        Unreadable: It unpacks to more than ``MOST_BYTES``.
    """
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        # no more is read of a member than it says it holds
        unpacked = sum(member.file_size for member in archive.infolist())
    check_size(f"unpacked {name}", unpacked, most=MOST_BYTES)
    return dict(np.load(io.BytesIO(packed), allow_pickle=False))


def check_size(name: str, size: int, *, most: int) -> None:
    """Hold the bytes of a file, or of what it unpacks to, against what is read.

    Raises:
        Unreadable: There are more.
    """
    if size > most:
        raise Unreadable(f"{name} has {show_size(size)}; more than {show_size(most)} are not read")


def recorded_of(
    record: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    files: Mapping[str, bytes],
    facts: Mapping[str, str],
) -> Recorded:
    """The result of a record of ``bob.ledger.writing.entry_record``.

    Args:
        record: Plain data.
        arrays: Outcomes by name.
        files: Tables and pictures by name.
        facts: Of the session.

    Raises:
        Unreadable: It is no result, or of another version.
    """
    try:
        _check_digest(record)
        case = case_from_plain(record["case"])
        if case.id != record["case"]["id"]:
            raise Unreadable(
                f"was run as case {record['case']['id']}, which this version of bob calls {case.id}"
            )
        for name in ("run_key", "weights_digest", "data_digest"):
            text(record["result"], name)
        return Recorded(
            entry=text(record, "entry"),
            session=text(record, "session"),
            role=text(record, "role"),
            time=moment(record, "time"),
            version=text(record, "version"),
            facts=facts,
            result=result_from_plain(case, record["result"], arrays, files),
            curve=tuple(
                (int(epoch), {name: float(value) for name, value in values.items()})
                for epoch, values in record["curve"]
            ),
        )
    except BobError as error:
        raise Unreadable(str(error)) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Unreadable(f"{where}: {first['msg']}; it is of another version of bob") from None
    except MALFORMED as error:
        raise _no_result(error) from None


def _no_result(error: Exception) -> Unreadable:
    return Unreadable(f"result.json is not a result ({line(repr(error))}); move it away")


def _check_digest(record: Mapping[str, Any]) -> None:
    """Hold a record against the digest in it.

    Raises:
        Unreadable: It was changed.
    """
    if "sha256" not in record:  # of an earlier version
        return
    rest = {name: value for name, value in record.items() if name != "sha256"}
    if digest_of(rest, length=64) != record["sha256"]:
        raise Unreadable("result.json is not as it was written; move it away")


def check_names(recorded: Recorded, *, session: str, entry: str) -> None:
    """Hold what a result says of itself against where it was found.

    Raises:
        Unreadable: It is of another session or entry, or the entry is not one of its case.
    """
    if (recorded.session, recorded.entry) != (session, entry):
        raise Unreadable(f"it says that it is {recorded.session}/{recorded.entry}; move it away")
    if not is_name_of(entry, recorded.result.case, recorded.role):
        raise Unreadable("its name is not one of its case; move it away")


def _text(record: Mapping[str, Any], name: str) -> str:
    if not isinstance(record[name], str):
        raise TypeError(f"{name} is no text")
    return str(record[name])


def read_judgement(path: Path) -> Judgement:
    """The verdict in a file.

    Raises:
        Unreadable: It is cut off, no verdict, or of a newer version.
    """
    record = read_record(path)
    try:
        return Judgement(
            name=text(record, "name"),
            session=text(record, "session"),
            role=text(record, "role"),
            entries=texts(record, "entries"),
            verdict=verdict_from_plain(record["verdict"]),
        )
    except MALFORMED as error:
        raise Unreadable(f"is not a verdict ({line(repr(error))}); move it away") from None


def read_facts(path: Path) -> tuple[dict[str, str], str]:
    """What holds for a session by its file, and when it began.

    Raises:
        Unreadable: It is cut off, tells of no session, or is of a newer version.
    """
    record = read_record(path)
    try:
        return dict(named_texts(record, "facts")), moment(record, "time")
    except MALFORMED as error:
        raise Unreadable(
            f"tells of no session ({line(repr(error))}); put back what was written"
        ) from None


def read_summary(path: Path) -> dict[str, Any]:
    """What a session came to, by its file.

    Raises:
        Unreadable: It is cut off, no summary, or of a newer version.
    """
    record = read_record(path)
    try:
        check_summary(record)
    except MALFORMED as error:
        raise Unreadable(f"is not a summary ({line(repr(error))}); move it away") from None
    return record


def read_record(path: Path) -> dict[str, Any]:
    """The plain data of a JSON file.

    Raises:
        Unreadable: It is cut off, none of bob's, or of a newer version.
    """
    try:
        record = parse_json(read_regular(path))
    except OSError as error:
        raise Unreadable(f"{path.name} cannot be read ({error.strerror})") from None
    except ValueError:
        raise Unreadable(f"{path.name} is cut off or not JSON; move it away") from None
    return checked_version(record, path.name)


def checked_version(record: Any, name: str) -> dict[str, Any]:
    """Plain data that this version reads.

    Args:
        record: What a file says.
        name: Of the file.

    Raises:
        Unreadable: It is none of bob's, or of a newer version.
    """
    schema = record.get("schema") if isinstance(record, dict) else None
    if not isinstance(schema, int):
        raise Unreadable(f"{name} does not say its version; it is none of bob's")
    if schema > SCHEMA:
        raise Unreadable(f"{name} is of version {schema}, and this bob reads {SCHEMA}; update bob")
    found: dict[str, Any] = record
    return found


def _content(folder: Path, name: str, digest: str) -> bytes:
    try:
        content = read_regular(inside(folder, name))
    except OSError as error:
        raise Unreadable(f"{name} cannot be read ({error.strerror}); move the entry away") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise Unreadable(f"{name} is not what was written; move the entry away and run it again")
    return content
