"""Is there a network? Asked once, and answered within seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

TIMEOUT = 8.0
"""Seconds without an answer after which a server is given up."""

_PACKAGES = {"huggingface_hub", "httpx", "httpcore", "requests", "urllib", "urllib3", "socket"}


def why_unreachable(url: str) -> str:
    """Why the server of an address gives no answer; empty if it gives one, whatever it says.

    Each server is asked once in the life of a process.
    """
    parts = urlsplit(url)
    return _ask(f"{parts.scheme}://{parts.netloc}/")


@cache
def _ask(root: str) -> str:
    try:
        urlopen(Request(root, method="HEAD"), timeout=TIMEOUT).close()
    except HTTPError:
        return ""
    except (OSError, HTTPException) as error:
        return reason(error)
    return ""


def reason(error: BaseException) -> str:
    """A network error in a few words."""
    inner = getattr(error, "reason", None) or error
    return f"{type(inner).__name__}: {inner}" if str(inner) else type(inner).__name__


def is_network(error: BaseException | None) -> bool:
    """Whether an exception, or one behind it, comes from the network."""
    while error is not None:
        package = type(error).__module__.split(".", 1)[0]
        if package in _PACKAGES or isinstance(error, ConnectionError | TimeoutError):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def impatient_hub() -> Iterator[None]:
    """The Hugging Face hub, from its cache alone where it cannot be reached.

    Left to itself its client tries for most of a minute per backbone.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or not why_unreachable(constants.ENDPOINT):
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False
