"""The one error type that users see, and the words it is made of."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from bob.redaction import redacted

_SHOWN = 3

LISTED = ("backbones", "datasets", "tasks", "scales", "executors")
"""What ``bob list`` prints of the kinds of names that may be unknown."""


class BobError(Exception):
    """Something a user can put right; the message names the input at fault and the remedy.

    Args:
        message: What is wrong and what to do about it; passwords and tokens in it are left out.
        kind: Short machine-readable word kept in a failed result, such as ``"weights"``.
    """

    def __init__(self, message: str, *, kind: str = "input") -> None:
        super().__init__(redacted(message))
        self.kind = kind

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), str(self), self.kind))


def _rebuild(cls: type[BobError], message: str, kind: str) -> BobError:
    return cls(message, kind=kind)


class ExecutorLost(BobError):
    """What runs the cases is gone for good, and the session with it."""


class TrainingDiverged(BobError):
    """The training loss became NaN or infinite."""

    def __init__(self, message: str, *, kind: str = "nan-loss") -> None:
        super().__init__(message, kind=kind)


class GridDiverged(TrainingDiverged):
    """No setting of a grid could be trained.

    Args:
        message: See ``BobError``.
        kind: See ``BobError``.
        trials: A ``bob.case.Trial`` for each setting; they do not travel with a pickled error.
    """

    def __init__(
        self, message: str, *, kind: str = "nan-loss", trials: tuple[Any, ...] = ()
    ) -> None:
        super().__init__(message, kind=kind)
        self.trials = trials


def unknown(what: str, name: str, known: Iterable[str], *, hint: str = "") -> BobError:
    """Error for a name that is not known, offering the nearest ones.

    Args:
        what: The kind of thing, such as ``"backbone"``.
        name: What the user wrote.
        known: Every valid name.
        hint: A last sentence, such as where new names are declared.
    """
    names = sorted(known)
    offer = did_you_mean(name, names)
    if not offer and len(names) <= 12:
        offer = f"Known: {', '.join(names) or 'none'}."
    elif not offer and f"{what}s" in LISTED:
        offer = f"{len(names)} are known; `bob list {what}s` prints them."
    elif not offer:
        offer = f"{len(names)} are known, such as {some(names)}."
    return BobError(" ".join(part for part in (f"Unknown {what} {name!r}.", offer, hint) if part))


def first_line(error: BaseException, *, most: int = 200) -> str:
    """The first line of an error's message, cut to ``most`` characters."""
    line = (str(error).strip() or "no further word").splitlines()[0]
    return line if len(line) <= most else f"{line[: most - 3]}..."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question that offers the names nearest to one that is not known; empty if none is near."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    near += [
        candidate for candidate in names if name and name in candidate and candidate not in near
    ][: 3 - len(near)]
    return f"Did you mean {' or '.join(repr(candidate) for candidate in near)}?" if near else ""


def no_file(path: Path, *, endings: tuple[str, ...], names: Iterable[str] = ()) -> str:
    """Sentences that say that a file is not there and offer the nearest ones of its folder.

    Args:
        path: What is not there.
        endings: What names of the files that are offered end in.
        names: What else may have been meant.
    """
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}."
    if path.is_dir():
        return f"{path} is a folder."
    files = [file.name for file in path.parent.iterdir() if file.name.lower().endswith(endings)]
    near = did_you_mean(path.name, [*files, *names])
    return " ".join(filter(None, (f"there is no file {path}.", near)))


def some(values: Iterable[object]) -> str:
    """The first three of many values, and how many more there are."""
    listed = [str(value) for value in values]
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
