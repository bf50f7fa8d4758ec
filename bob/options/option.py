"""What an option is, and what somebody said of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bob.errors import BobError

Given = str | bool | Sequence[str] | None
"""What a parser gives; false in a condition where nobody said anything."""


@dataclass(frozen=True)
class Said:
    """What somebody said of one option.

    Attributes:
        name: Flag, ini key or environment variable, as errors name it.
        texts: What was said: one text, or several where an option may be repeated; none where
            nobody said anything and there is no default.
        base: Folder that relative paths are taken from.
        where: What errors add to the text, such as ``" in the ini file"``.
    """

    name: str
    texts: tuple[str, ...]
    base: Path
    where: str = ""

    @property
    def text(self) -> str:
        """The one text; empty where nobody said anything."""
        return self.texts[-1] if self.texts else ""

    def wrong(self, expected: str) -> BobError:
        """The error of a text that was not what was expected."""
        return BobError(f"{self.name} {self.text!r}{self.where}: expected {expected}.")


@dataclass(frozen=True)
class Option:
    """One option, declared once.

    pytest's parser and ini file, the arguments of the command ``bob``, the values in ``Options``,
    the command that repeats a case and the table in README.md follow from it.

    Attributes:
        dest: Name of the ini key and of pytest's option.
        help: For ``--help``.
        parse: Makes the value in ``Options`` from what was said.
        default: What holds where nobody says anything, as text.
        kind: ``string``, ``bool``, or ``linelist`` for one that may be repeated.
        ini: Whether the ini file may say it.
        env: Environment variable that says it where command line and ini file do not.
        repeat: Whether a case that is run again needs it: it changes what is run, where to, or
            whether the test passes.
        commands: Commands of ``bob`` that take it too.
        alias: Another flag that these commands know it by.
        field: Field of ``Options``; without ``bob_`` the same as ``dest`` where it is empty.
        table: What README.md says, in Markdown; the help where it is empty.
        shown: How README.md writes flag and value; from flag and metavar where it is empty.
    """

    flag: str
    dest: str
    help: str
    parse: Callable[[Said], Any]
    default: str = ""
    kind: str = "string"
    metavar: str | None = None
    choices: tuple[str, ...] | None = None
    ini: bool = True
    env: str = ""
    repeat: bool = True
    commands: frozenset[str] = frozenset()
    alias: str = ""
    field: str = ""
    table: str = ""
    shown: str = ""

    def __post_init__(self) -> None:
        if not self.field:
            object.__setattr__(self, "field", self.dest.removeprefix("bob_"))

    def said(self, *, flag: Given, ini: Given = None, here: Path, root: Path) -> Said:
        """What was said: command line before ini file before environment before default.

        Args:
            flag: What stands on the command line.
            ini: What stands in the ini file.
            here: Working directory, from which the command line and the environment are read.
            root: Folder from which the ini file and defaults are read.
        """
        if flag:
            return Said(self.flag, _texts(flag), here)
        if ini:
            return Said(self.dest, _texts(ini), root, " in the ini file")
        named = os.environ.get(self.env) if self.env else None
        if named:
            return Said(self.env, (named,), here, " in the environment")
        return Said(self.flag, _texts(self.default), root)

    def value(self, said: Said) -> Any:
        """The value in ``Options``.

        Raises:
            BobError: It is not among the choices, or cannot be parsed.
        """
        if self.choices and said.text and said.text not in self.choices:
            raise said.wrong(f"one of {', '.join(self.choices)}")
        return self.parse(said)

    def argument(self, *, ini: bool) -> dict[str, Any]:
        """Keyword arguments of ``add_argument``; the value is None where the flag is not given.

        Args:
            ini: Whether the reader of the help can say it in an ini file.
        """
        notes = [f" (ini: {self.dest})"] if ini and self.ini else []
        notes += [f" (environment: {self.env})"] if self.env else []
        text = self.help + "".join(notes)
        return {"dest": self.dest, "default": None, "help": text, **self._action()}

    def _action(self) -> dict[str, Any]:
        if self.kind == "bool":
            return {"action": "store_true"}
        if self.kind == "linelist":
            return {"action": "append", "metavar": self.metavar}
        return {"choices": self.choices, "metavar": self.metavar}


def _texts(given: Given) -> tuple[str, ...]:
    if not given:
        return ()
    if given is True:
        return ("true",)
    return (given,) if isinstance(given, str) else tuple(given)
