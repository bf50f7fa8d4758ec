"""A file on a network: where it is offered and how it is told to be right."""

from __future__ import annotations

from dataclasses import dataclass

from bob.errors import BobError


@dataclass(frozen=True)
class Source:
    """One file that is offered at one or several addresses.

    Attributes:
        urls: Addresses to try, in this order; all hold the same bytes.
        md5: Digest it must have; empty for none.
        sha256: The same, as SHA-256.
        size: Bytes it must have; none where nobody states them.
        md5_url: Address of a text that begins with its MD5; empty where there is none.
    """

    urls: tuple[str, ...]
    md5: str = ""
    sha256: str = ""
    size: int | None = None
    md5_url: str = ""

    @property
    def digested(self) -> bool:
        """Whether its content can be told from any other."""
        return bool(self.md5 or self.sha256)


class NotFetched(BobError):
    """No address gives a file whole and right.

    Args:
        message: See ``BobError``.
        kind: See ``BobError``.
        reasons: Why, a line for each address.
        found: ``(url, kind of digest, digest)`` of a file that came whole and was another one.

    The last two do not travel with a pickled error.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: str = "unavailable",
        reasons: tuple[str, ...] = (),
        found: tuple[str, str, str] | None = None,
    ) -> None:
        super().__init__(message, kind=kind)
        self.reasons = reasons
        self.found = found
