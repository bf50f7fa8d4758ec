"""Passwords and tokens: in nothing that is shown, logged or kept.

Texts that pass through ``bob.shown``, messages of ``BobError`` and failures of cases are redacted
here, wherever they come from. Standard library alone.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, quote_plus, unquote

STARS = "***"
PASSWORD, TOKEN = "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"
USERNAME = "MLFLOW_TRACKING_USERNAME"

_VARIABLES = (
    PASSWORD, TOKEN, "PGPASSWORD", "DATABRICKS_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN",
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
)  # fmt: skip
"""Environment variables whose values are secrets."""
_SHORTEST = 6
"""Characters of a secret that is looked for by itself; a shorter one is part of common words."""

# what stands before a port is no user: digits up to a slash
_IN_TEXT = re.compile(
    r"(?P<before>://)(?P<user>[^\s/:@?#'\"<>\[]{0,200}):(?!\d+[/?#])(?P<password>\S{0,2000})@"
)
_HOST = re.compile(r"([\w.%~,-]*|\[[\w:.%]+\])(:\d*)?")
_QUERY = re.compile(
    r"(?P<before>[?&;](?:[\w.-]{0,60}(?:password|passwd|pwd|token|secret|signature|credential|"
    r"api[_-]?key)|sig|key(?==[^&;\s'\"<>/.]*(?:[&;\s'\"<>]|$)))=)"  # no path in a bucket
    r"[^&;\s'\"<>]+?(?=:?(?:[&;\s'\"<>]|$))",
    re.IGNORECASE,
)
_HEADER = re.compile(r"(?P<before>\bauthorization\W{1,5}(?:basic|bearer)\s+)[^\s'\",]+", re.I)

_TOKEN = re.compile(r"\b(?:hf_|gh[opsu]_|github_pat_)[A-Za-z0-9_]{30,}")
"""Tokens of hubs of models and of code, which say themselves what they are."""

_told: set[str] = set()


@dataclass(frozen=True)
class Login:
    """A URI taken apart.

    Attributes:
        scheme: With ``://``.
        user: As it is written; none where the URI has no ``@``.
        password: Decoded; none where the URI has no colon behind the user.
        rest: From the host on.
    """

    scheme: str
    user: str | None
    password: str | None
    rest: str


def login_of(uri: str) -> Login:
    """Take a URI apart; a password may hold ``@``, ``:`` and ``/``, encoded or as they are."""
    scheme, sign, behind = uri.partition("://")
    userinfo, at, host = re.split(r"[/?#]", behind, maxsplit=1)[0].rpartition("@")
    # a slash of the password may have ended the search too early
    longer, sign_of_more, after = behind.partition("?")[0].rpartition("@")
    later = re.split(r"[/#]", after, maxsplit=1)[0]
    if not _HOST.fullmatch(host):
        userinfo, at, _ = behind.rpartition("@")
    elif ":" in userinfo and len(longer) > len(userinfo) and _HOST.fullmatch(later):
        userinfo, at = longer, sign_of_more
    if not sign or not at:
        return Login(scheme + sign, None, None, behind)
    user, colon, password = userinfo.partition(":")
    rest = behind[len(userinfo) + 1 :]
    return Login(scheme + sign, user, unquote(password) if colon else None, rest)


def without_password(uri: str) -> str:
    """A URI as it is shown: its user stays and its password goes.

    A user with an empty password is a token and goes too.
    """
    login = login_of(uri)
    rest = _QUERY.sub(_starred, login.rest)
    if login.user is None:
        return f"{login.scheme}{rest}"
    user = STARS if login.password == "" else login.user
    return f"{login.scheme}{user}@{rest}"


def holds_secret(uri: str) -> bool:
    """Whether a URI has a password or token, in front of its host or in its parameters."""
    return without_password(uri) != uri


def password_word(uri: str) -> str:
    """Where the password of a URI belongs that is shown without it; empty where it has none."""
    if not holds_secret(uri):
        return ""
    login = login_of(uri)
    if login.password and login.scheme.endswith(("http://", "https://")):
        return f"its password belongs into {PASSWORD}"
    if login.password and "postgres" in login.scheme:
        return "its password belongs into PGPASSWORD"
    return "its password is left out here, and has to be put back"


def remember(secret: str, *, user: str = "") -> None:
    """Have a secret redacted wherever it turns up, and what a header makes of it and its user."""
    _told.add(_encoded_pair(user, secret))
    if len(secret) >= _SHORTEST:
        _told.update((secret, quote(secret, safe=""), quote_plus(secret)))


def redacted(text: str) -> str:
    """A text without the passwords and tokens in it.

    Left out are passwords of URIs, in their parameters too, authorization headers, tokens of hubs,
    and every value of the environment variables that hold a secret.
    """
    if "://" in text:
        text = _IN_TEXT.sub(_starred_login, text)
    if "=" in text:
        text = _QUERY.sub(_starred, text)
    if "uthorization" in text or "UTHORIZATION" in text:
        text = _HEADER.sub(_starred, text)
    if "_" in text:
        text = _TOKEN.sub(STARS, text)
    for secret in sorted(_secrets(), key=len, reverse=True):
        if secret not in text:
            continue
        # one that is a common word is also part of names, which have to stay what they are
        word = secret.isascii() and secret.isalpha()
        text = re.sub(rf"\b{secret}\b", STARS, text) if word else text.replace(secret, STARS)
    return text


def _secrets() -> Iterator[str]:
    yield from _told
    for name in _VARIABLES:
        value = os.environ.get(name, "")
        if len(value) >= _SHORTEST:
            yield from {value, quote(value, safe=""), quote_plus(value)}
    if os.environ.get(PASSWORD):
        yield _encoded_pair(os.environ.get(USERNAME, ""), os.environ[PASSWORD])


def _encoded_pair(user: str, password: str) -> str:
    return b64encode(f"{user}:{password}".encode(errors="replace")).decode()


def _starred(found: re.Match[str]) -> str:
    return f"{found['before']}{STARS}"


def _starred_login(found: re.Match[str]) -> str:
    shown = f"{found['user']}:{STARS}" if found["password"] else STARS
    return f"{found['before']}{shown}@"
