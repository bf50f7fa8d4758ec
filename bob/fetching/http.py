"""One file over HTTP: several addresses, resume, checks of length and digest."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bob.errors import BobError, first_line
from bob.fetching.plan import Wanted

if TYPE_CHECKING:
    import requests

_TIMEOUT = (10, 60)
_BLOCK = 1 << 18
_TRIES = 3
Told = Callable[[int, int | None], None]
"""Called with the bytes that are there, and those there will be where that is known."""


class _BrokeOff(Exception):
    """The connection ended before the file did; what came is kept."""


class _Refused(Exception):
    """This address does not give the file; another may."""


def size_of(wanted: Wanted) -> int | None:
    """Bytes of a file as its publisher or the server states them; none where neither does.

    Raises:
        BobError: No address can be reached.
    """
    import requests

    if wanted.size is not None:
        return wanted.size
    lost = []
    for url in wanted.urls:
        try:
            answer = requests.head(url, allow_redirects=True, timeout=_TIMEOUT)
        except requests.RequestException as error:
            lost.append(f"{url}: {_cause(error)}")
            continue
        if answer.ok and not _is_page(answer, b""):
            length = answer.headers.get("Content-Length", "")
            return int(length) if length.isdecimal() else None
    if len(lost) == len(wanted.urls):
        raise unreachable(lost)
    return None


def unreachable(lost: list[str]) -> BobError:
    """The error of addresses that cannot be reached."""
    return BobError(
        "Cannot reach " + "; ".join(lost) + ". Check the network (HTTPS_PROXY names a proxy, "
        "BOB_MIRROR a mirror), or put the files there by hand; `bob datasets NAME` says where.",
        kind="unavailable",
    )


def download(wanted: Wanted, target: Path, told: Told) -> None:
    """Fetch a file into ``target``; what came before a break is kept in ``target.part``.

    Raises:
        BobError: No address gives it whole and right, or it cannot be written.
    """
    reasons = []
    for url in wanted.urls:
        for attempt in range(_TRIES):
            try:
                _fetch(url, wanted, target, told)
                return
            except _Refused as error:
                reasons.append(f"{url}: {error}")
                break
            except _BrokeOff as error:
                if attempt == _TRIES - 1:
                    reasons.append(f"{url}: {error}; the same command goes on from there")
    raise BobError(f"Cannot fetch {wanted.name}. {'; '.join(reasons)}.", kind="unavailable")


def _fetch(url: str, wanted: Wanted, target: Path, told: Told) -> None:
    import requests

    part, note = Path(f"{target}.part"), Path(f"{target}.part.json")
    have = part.stat().st_size if part.exists() else 0
    known = _noted(note) if have else {}
    have = have if known.get("url") == url else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if known.get("validator"):
            headers["If-Range"] = known["validator"]
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
            if have and answer.status_code == 416:
                part.unlink()
                raise _BrokeOff("the server has a shorter file than before")
            if not answer.ok:
                raise _Refused(f"the server answers {answer.status_code} {answer.reason}")
            start, length = _from_where(answer, have, known)
            if start is None:
                part.unlink()
                raise _BrokeOff("the server's file has changed")
            if wanted.size is not None and length is not None and wanted.size != length:
                raise _Refused(f"{length:,} bytes where {wanted.size:,} are published")
            _keep(answer, url, part, note, start=start, length=length, told=told)
    except requests.RequestException as error:
        if part.exists() and part.stat().st_size:
            raise _BrokeOff(f"broke off at {part.stat().st_size:,} bytes") from None
        raise _Refused(f"cannot be reached ({_cause(error)})") from None
    _check(wanted, part)
    part.rename(target)
    note.unlink(missing_ok=True)


def _from_where(
    answer: requests.Response, have: int, known: dict[str, Any]
) -> tuple[int | None, int | None]:
    """First byte of the answer and length of the whole file; no first byte where it changed."""
    if answer.status_code != 206:
        whole = answer.headers.get("Content-Length", "")
        return 0, int(whole) if whole.isdecimal() else None
    span, _, total = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    length = int(total) if total.isdecimal() else None
    changed = (
        span.split("-")[0] != str(have)
        or length != known.get("length")
        or _validator(answer) != known.get("validator")
    )
    return (None if changed else have), length


def _validator(answer: requests.Response) -> str:
    """What names this version of the file; a weak ETag does not name bytes."""
    tag = str(answer.headers.get("ETag", ""))
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")


def _keep(
    answer: requests.Response, url: str, part: Path, note: Path, *, start: int,
    length: int | None, told: Told,
) -> None:  # fmt: skip
    import requests

    answer.raw.enforce_content_length = False  # else what came last before a break is lost
    blocks = answer.iter_content(_BLOCK)
    try:
        first = next(blocks, b"")
    except requests.RequestException as error:
        raise _BrokeOff(f"broke off ({_cause(error)})") from None
    if not start and _is_page(answer, first):
        raise _Refused(
            "the answer is a web page, not the file: a proxy's or a login's. Open the address in a "
            "browser to see what it wants"
        )
    try:
        with part.open("r+b" if start else "wb") as stream:
            if not start:
                facts = {"url": url, "length": length, "validator": _validator(answer)}
                note.write_text(json.dumps(facts), encoding="utf-8")
            stream.seek(start)
            done = start
            while first:
                stream.write(first)
                done += len(first)
                told(done, length)
                first = next(blocks, b"")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        if isinstance(error, requests.RequestException):
            raise
        raise BobError(
            f"Cannot write {part} ({error.strerror}): {_still(length, part)}. Make room or name "
            "another data root in BOB_DATA; the same command goes on from there."
        ) from None
    if length is not None and done != length:
        raise _BrokeOff(f"broke off at {done:,} of {length:,} bytes")


def _still(length: int | None, part: Path) -> str:
    have = part.stat().st_size if part.exists() else 0
    return f"{have:,} of {length:,} bytes are there" if length else f"{have:,} bytes are there"


def _check(wanted: Wanted, part: Path) -> None:
    for kind, digest in (("md5", wanted.md5), ("sha256", wanted.sha256)):
        if not digest:
            continue
        hasher = hashlib.new(kind, usedforsecurity=False)
        with part.open("rb") as stream:
            while block := stream.read(_BLOCK):
                hasher.update(block)
        found = hasher.hexdigest()
        if found != digest:
            part.unlink()
            raise _Refused(f"its {kind} is {found} and should be {digest}; it was thrown away")


def _is_page(answer: requests.Response, first: bytes) -> bool:
    kind = answer.headers.get("Content-Type", "").lower()
    start = first[:200].lstrip().lower()
    return "text/html" in kind or start.startswith((b"<!doctype html", b"<html"))


def _noted(note: Path) -> dict[str, Any]:
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _cause(error: BaseException) -> str:
    """The innermost reason of an error of requests, in a line."""
    while error.__context__ is not None:
        error = error.__context__
    return first_line(error, most=80)
