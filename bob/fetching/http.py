"""One file over HTTP: several addresses, resume, checks of length and digest.

Datasets (``bob.fetching.fetch``) and released weights (``bob.backbones.released``) both come this
way. What differs is theirs: where a file goes, who is waited for, and what an error advises.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bob.fetching.answers import TIMEOUT, cause, is_page
from bob.fetching.partial import Partial, place_of, validator_of
from bob.fetching.source import NotFetched, Source

if TYPE_CHECKING:
    import requests

_BLOCK = 1 << 20
_ARRIVING = 1 << 15
"""Bytes that are waited for at once; fewer are lost when a connection stalls."""
_PAUSES = (0.2, 1.0)
"""Seconds before a second and a third try."""
_BUSY = (408, 429, 500, 502, 503, 504)
"""Answers after which a server may well give the file a moment later."""
Told = Callable[[int, int | None], None]
"""Called with the bytes that are there, and those there will be where that is known."""


class _BrokeOff(Exception):
    """The connection ended before the file did, or the server is busy: worth another try."""


class _Refused(Exception):
    """This address does not give the file; another may.

    Args:
        why: In a few words.
        found: Kind of digest and digest, where the file came whole and was another.
    """

    def __init__(self, why: str, found: tuple[str, str] | None = None) -> None:
        super().__init__(why)
        self.found = found


def download(
    source: Source,
    target: Path,
    told: Told = lambda done, length: None,
    *,
    timeout: tuple[float, float] = TIMEOUT,
) -> None:
    """Fetch a file into ``target``.

    What came before a break is kept beside it where the rest can be put behind it: the server names
    the version of its file, or a digest tells whether what came of it is right.

    Args:
        source: Where it is offered, and what it must be.
        target: Where it goes; its folder exists.
        told: Told how far it is.
        timeout: Seconds to connect, and without a byte, after which a server is given up.

    Raises:
        NotFetched: No address gives it whole and right.
        OSError: It cannot be written; what came is kept.
    """
    part = Partial(target)
    reasons: list[str] = []
    found: tuple[str, str, str] | None = None
    for url in source.urls:
        for pause in (*_PAUSES, None):
            try:
                _fetch(url, source, part, told, timeout)
                return
            except _Refused as error:
                reasons.append(f"{url}: {error}")
                found = (url, *error.found) if error.found else found
                break
            except _BrokeOff as error:
                if pause is not None:
                    time.sleep(pause)
                    continue
                goes_on = part.size and (source.digested or part.note.get("validator"))
                reasons.append(
                    f"{url}: {error}{'; the same command goes on from there' if goes_on else ''}"
                )
    if part.size and not source.digested and not part.note.get("validator"):
        part.drop()
    raise NotFetched(
        f"Cannot fetch {target.name}. {'; '.join(reasons)}.", reasons=tuple(reasons), found=found
    )


def _fetch(
    url: str, source: Source, part: Partial, told: Told, timeout: tuple[float, float]
) -> None:
    import requests

    have, note = part.size, part.note
    if note.get("url") != url or not (source.digested or note.get("validator")):
        have = 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if note.get("validator"):
            headers["If-Range"] = note["validator"]
    try:
        with requests.get(url, headers=headers, stream=True, timeout=timeout) as answer:
            _check_answer(answer, have, part)
            start, length = place_of(answer, have, note)
            if start is None:
                part.drop()
                raise _BrokeOff("the server's file has changed")
            if source.size is not None and length is not None and source.size != length:
                raise _Refused(f"{length:,} bytes where {source.size:,} are published")
            _keep(answer, url, part, start=start, length=length, told=told)
    except requests.RequestException as error:
        if part.size:
            raise _BrokeOff(f"broke off at {part.size:,} bytes") from None
        raise _Refused(f"cannot be reached ({cause(error)})") from None
    try:
        _check(source, part)
    except _Refused:
        if start:  # what came before the break may be at fault
            raise _BrokeOff("the rest did not fit what came before a break") from None
        raise
    part.finish()


def _check_answer(answer: requests.Response, have: int, part: Partial) -> None:
    if have and answer.status_code == 416:
        part.drop()
        raise _BrokeOff("the server has a shorter file than before")
    words = f"the server answers {answer.status_code} {answer.reason}"
    if answer.status_code in _BUSY:
        raise _BrokeOff(words)
    if not answer.ok:
        raise _Refused(words)


def _keep(
    answer: requests.Response, url: str, part: Partial, *, start: int, length: int | None,
    told: Told,
) -> None:  # fmt: skip
    """Write what comes behind what is there.

    Bytes are taken as they are sent: a server that calls a ``.tgz`` a compressed answer would
    else have it unpacked on the way.
    """
    blocks = _blocks(answer)
    first = next(blocks, b"")
    if not start and is_page(answer, first):
        raise _Refused(
            "the answer is a web page, not the file: a proxy's or a login's. Open the address in a "
            "browser to see what it wants"
        )
    if not start:
        part.begin(url, length, validator_of(answer))
    with part.path.open("r+b" if start else "wb") as stream:
        stream.seek(start)
        done = start
        while first:
            stream.write(first)
            done += len(first)
            told(done, length)
            first = next(blocks, b"")
        stream.flush()
        os.fsync(stream.fileno())
    if length is not None and done != length:
        raise _BrokeOff(f"broke off at {done:,} of {length:,} bytes")


def _blocks(answer: requests.Response) -> Iterator[bytes]:
    """Bytes as they are sent, up to a break."""
    from urllib3.exceptions import HTTPError

    answer.raw.enforce_content_length = False  # else what came last before a break is lost
    try:
        yield from answer.raw.stream(_ARRIVING, decode_content=False)
    except (HTTPError, ConnectionError, TimeoutError) as error:
        raise _BrokeOff(f"broke off ({cause(error)})") from None


def _check(source: Source, part: Partial) -> None:
    """Size and digests in one reading."""
    wanted = {kind: getattr(source, kind) for kind in ("md5", "sha256")}
    hashers = {
        kind: hashlib.new(kind, usedforsecurity=False) for kind, digest in wanted.items() if digest
    }
    if source.size is not None and part.size != source.size:
        have = part.size
        part.drop()
        raise _Refused(f"{have:,} bytes where {source.size:,} are published; it was thrown away")
    if not hashers:
        return
    with part.path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            for hasher in hashers.values():
                hasher.update(block)
    for kind, hasher in hashers.items():
        if hasher.hexdigest() != wanted[kind]:
            part.drop()
            found = hasher.hexdigest()
            raise _Refused(
                f"its {kind} is {found} and should be {wanted[kind]}; it was thrown away",
                (kind, found),
            )
