"""No option of this plugin may move pytest's root folder.

pytest looks for its root folder and ini file before it knows the options of plugins. A value behind
a space that exists as a path passes for a test by then. With one outside of the repository the ini
file is left aside, and with it scale, references and ``testpaths``. Behind ``=`` a value is no word
of its own.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from inspect import signature
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from bob.errors import BobError
from bob.options.declaration import OPTIONS

if TYPE_CHECKING:
    import pytest

Found = tuple[Path, Path | None]
"""Root folder and ini file."""


def check_root(config: pytest.Config) -> None:
    """Refuse a command line on which a value of this plugin's options has moved the root folder.

    Args:
        config: pytest's, once it knows the options of plugins.

    Raises:
        BobError: It has; the message names the words to write.
    """
    pairs = list(_spaced(_words(config), config.invocation_params.dir))
    if not pairs:
        return
    tests = [str(word) for word in config.known_args_namespace.file_or_dir]
    wanted = _found(config, tests)
    if wanted is not None:
        taken: Found = (config.rootpath, config.inipath)
        values = [value for _, value in pairs]
        # where folders have no ini file above all of them, the first that has one decides
        moves = any(
            _found(config, words) != wanted for words in ([*values, *tests], [*tests, *values])
        )
        if wanted == taken or not moves:
            return
    ini = f"the ini file {config.inipath}" if config.inipath else "no ini file"
    flags = " and ".join(dict.fromkeys(flag for flag, _ in pairs))
    better = " ".join(shlex.quote(f"{flag}={value}") for flag, value in pairs)
    raise BobError(
        f"pytest took {config.rootpath} for its root folder and read {ini}, because it takes a "
        f"path behind {flags} and a space for a test. Nothing was run. Write it with the sign: "
        f"{better}"
    )


def _words(config: pytest.Config) -> list[str]:
    """The words that pytest looked for its root folder in: the environment's and the typed ones."""
    words = [
        *shlex.split(os.environ.get("PYTEST_ADDOPTS", "")),
        *map(str, config.invocation_params.args),
    ]
    return [part for word in words for part in _of_file(word, config.invocation_params.dir)]


def _of_file(word: str, here: Path) -> list[str]:
    """The words of a file of arguments, which is named behind ``@``."""
    if not word.startswith("@"):
        return [word]
    try:
        lines = (here / word[1:]).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return [word]
    return [part for line in lines for part in _of_file(line, here)]


def _spaced(words: Sequence[str], here: Path) -> Iterator[tuple[str, str]]:
    """Flags and values of this plugin's that are two words, where the second exists as a path."""
    flags = {option.flag for option in OPTIONS if option.kind != "bool"}
    end = words.index("--") if "--" in words else len(words)
    for flag, value in pairwise(words[:end]):
        if flag in flags and not value.startswith("-") and _exists(here, value.split("::")[0]):
            yield flag, value


def _exists(here: Path, text: str) -> bool:
    try:
        return (here / text).exists()
    except (OSError, ValueError):
        return False


def _found(config: pytest.Config, tests: Sequence[str]) -> Found | None:
    """What pytest finds with these words for tests; none where this pytest cannot be asked."""
    try:
        from _pytest.config.findpaths import determine_setup
    except ImportError:
        return None
    known = config.known_args_namespace
    given = {
        "inifile": known.inifilename,
        "override_ini": None,
        "args": tests,
        "rootdir_cmd_arg": known.rootdir or None,
        "invocation_dir": config.invocation_params.dir,
    }
    names = signature(determine_setup).parameters
    try:
        root, ini, *_ = determine_setup(**{k: v for k, v in given.items() if k in names})
    except TypeError:
        return None
    return root, ini
