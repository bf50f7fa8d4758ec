"""What servers say of files before they are fetched, and pages they give in their place."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bob.errors import BobError, first_line
from bob.fetching.source import NotFetched, Source

if TYPE_CHECKING:
    import requests

TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and without a byte, after which a server is given up."""
_LONGEST_LIST = 1 << 12


def size_of(source: Source) -> int | None:
    """Bytes of a file as its publisher or the server states them; none where neither does.

    Raises:
        BobError: No address can be reached.
    """
    import requests

    if source.size is not None:
        return source.size
    lost = []
    for url in source.urls:
        try:
            answer = requests.head(url, allow_redirects=True, timeout=TIMEOUT)
        except requests.RequestException as error:
            lost.append(f"{url}: {cause(error)}")
            continue
        if answer.ok and not is_page(answer, b""):
            length = answer.headers.get("Content-Length", "")
            return int(length) if length.isdecimal() else None
    if len(lost) == len(source.urls):
        raise unreachable(lost)
    return None


def published_md5(url: str) -> str:
    """The MD5 that a publisher's text begins with.

    Raises:
        NotFetched: It cannot be had, or is no such text.
    """
    import requests

    try:
        answer = requests.get(url, timeout=TIMEOUT)
    except requests.RequestException as error:
        raise unreachable([f"{url}: {cause(error)}"]) from None
    digest = re.match(r"\s*([0-9a-fA-F]{32})\b", answer.text[:_LONGEST_LIST])
    if not answer.ok or digest is None:
        why = "holds no MD5" if answer.ok else f"is answered {answer.status_code} {answer.reason}"
        raise NotFetched(f"Cannot check what is to be fetched: {url} {why}.")
    return digest[1].lower()


def unreachable(lost: list[str]) -> BobError:
    """The error of addresses that cannot be reached."""
    return NotFetched(
        "Cannot reach " + "; ".join(lost) + ". Check the network (HTTPS_PROXY names a proxy, "
        "BOB_MIRROR a mirror), or put the files there by hand; `bob datasets NAME` says where.",
        reasons=tuple(lost),
    )


def is_page(answer: requests.Response, first: bytes) -> bool:
    """Whether an answer is a web page in place of a file, by its type or its first bytes."""
    kind = answer.headers.get("Content-Type", "").lower()
    start = first[:200].lstrip().lower()
    return "text/html" in kind or start.startswith((b"<!doctype html", b"<html"))


def cause(error: BaseException) -> str:
    """The innermost reason of an error of requests, in a line."""
    while error.__context__ is not None:
        error = error.__context__
    return first_line(error, most=80)
