"""Text of others as it is shown: nothing in it acts on a terminal or a page, and it ends.

Names of classes, files and backbones, messages of exceptions and tracebacks come from anywhere.
Whatever shows them to somebody passes them through here: the terminal through ``line`` and
``block``, Markdown through ``markdown_text``, MLflow through ``line``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from bob.redaction import redacted

LINE = 200
BLOCK = 4000

_UNSEEN = frozenset(("Cc", "Cs", "Zl", "Zp"))
_TURNING = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_BAR = re.compile(r"(?<!\\)\|")
_MARKUP = re.compile(r"([\\`*|~])|(?<!\w)_|_(?!\w)|\](?=[(\[])")


def visible(text: str, *, keep: str = "") -> str:
    r"""Text in which control characters are seen: an escape is written ``\x1b`` and does nothing.

    Characters that turn the direction of what follows, line separators and what cannot be encoded
    are written so too. Passwords and tokens are left out.

    Args:
        text: Any.
        keep: Control characters that stay.
    """
    text = redacted(text)
    if text.isprintable() and not _TURNING.intersection(text):
        return text
    return "".join(
        _escape(character) if character not in keep and _acts(character) else character
        for character in text
    )


def line(text: object, *, limit: int = LINE) -> str:
    """Text on one line; of a long one the middle is left out.

    Args:
        text: Any.
        limit: Characters at most.
    """
    return elided(visible(" ".join(str(text).splitlines())), limit)


def block(text: object, *, limit: int = BLOCK, whole: str = "") -> str:
    """Text of several lines; of a long one the middle is left out, and how much that is is told.

    Args:
        text: Any.
        limit: About how many characters at most.
        whole: Where all of it is, in words.
    """
    shown = visible(str(text).replace("\r\n", "\n"), keep="\n\t")
    if len(shown) <= limit:
        return shown
    head, tail = shown[: limit // 2], shown[-(limit // 2) :]
    left_out = len(shown) - len(head) - len(tail)
    note = f"[{left_out:,} characters are left out here{f'; all of it: {whole}' if whole else ''}]"
    return f"{head}\n... {note}\n{tail}"


def elided(text: str, limit: int) -> str:
    """Text of at most ``limit`` characters; what is left out of its middle is an ellipsis.

    The end stays, because names that begin alike often differ there.
    """
    if len(text) <= limit:
        return text
    if limit < 2:
        return text[:limit]
    head = (limit - 1) * 3 // 5
    tail = limit - 1 - head
    return f"{text[:head]}…{text[len(text) - tail :] if tail else ''}"


def markdown_text(text: str) -> str:
    """Text as a Markdown page shows it literally, in a cell of a table too."""
    plain = line(text, limit=10_000).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(lambda found: f"\\{found.group()}", plain)


def markdown_cell(text: str) -> str:
    """Markdown that stays in one cell of a table: on one line, and its bars end nothing."""
    return _BAR.sub(r"\\|", line(text, limit=10_000))


def encodable(text: str, encoding: str | None) -> str:
    """Text in which characters that an encoding lacks are escapes."""
    name = encoding or "utf-8"
    return text.encode(name, "backslashreplace").decode(name)


def lines_of(text: str) -> Iterator[str]:
    """The lines of a text, each without what acts."""
    for part in text.split("\n"):
        yield visible(part, keep="\t")


def _acts(character: str) -> bool:
    return unicodedata.category(character) in _UNSEEN or character in _TURNING


def _escape(character: str) -> str:
    code = ord(character)
    short = {9: "\\t", 10: "\\n", 13: "\\r"}
    if code in short:
        return short[code]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
