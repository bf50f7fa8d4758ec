"""A tracking URI with a login: what is shown of it, and what MLflow is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from bob.redaction import PASSWORD, USERNAME, Login, login_of, remember, without_password


@dataclass(frozen=True)
class Access:
    """How a store is reached.

    Attributes:
        shown: Its URI without password.
        address: Its URI as MLflow is told it. That of a server has no login, so that no message of
            MLflow's can show one.
        variables: MLflow's environment variables of a server's login; those that the user has set
            hold where they are not among them.
    """

    shown: str
    address: str = field(repr=False)
    variables: Mapping[str, str] = field(repr=False)


def access_of(uri: str) -> Access:
    """Take the login out of a tracking URI; its password is redacted from then on."""
    login = login_of(uri)
    shown = without_password(uri)
    if login.password:
        remember(login.password, user=unquote(login.user or ""))
    if login.user is None:
        return Access(shown, uri, {})
    if login.scheme not in ("http://", "https://"):
        return Access(shown, _encoded(login), {})
    user = unquote(login.user)
    if login.password == "":  # a token, which MLflow's variables have no words for
        remember(user)
        remember("", user=user)
        return Access(shown, _encoded(login), {})
    given = {} if login.password is None else {PASSWORD: login.password}
    return Access(shown, f"{login.scheme}{login.rest}", {USERNAME: user, **given})


def _encoded(login: Login) -> str:
    """The URI with its password encoded, as whoever reads it expects."""
    password = "" if login.password is None else f":{quote(login.password, safe='')}"
    return f"{login.scheme}{login.user}{password}@{login.rest}"
