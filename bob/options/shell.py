"""The words of a command line that runs a case of this session again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bob.options.declaration import OPTIONS
from bob.options.pytest_config import ini_folder
from bob.redaction import password_word, without_password

if TYPE_CHECKING:
    import pytest


def repeated_words(config: pytest.Config) -> list[str]:
    """What stands on the command line and a repeat of one case needs again, as words.

    A value stands behind ``=``: behind a space pytest would take one that exists as a path for a
    test, and look for its ini file there. What the ini file and the environment say holds again
    without being said. Backbones are left out: a file of ``--checkpoint`` is in their names by
    then. Passwords are left out too; ``left_out`` says where they belong.
    """
    words: list[str] = []
    for option in OPTIONS:
        value = config.getoption(option.dest, None)
        if value is None or not option.repeat or option.dest == "bob_backbones":
            continue
        if option.kind == "bool":
            words.append(option.flag)
        else:
            texts = value if option.kind == "linelist" else [value]
            words += [f"{option.flag}={without_password(str(text))}" for text in texts]
    return [*words, *_ini_words(config)]


def left_out(config: pytest.Config) -> str:
    """What the words of ``repeated_words`` lack, in words; empty where they lack nothing."""
    given = [config.getoption("bob_tracking_uri") or "", *(config.getoption("override_ini") or ())]
    return next(filter(None, map(password_word, given)), "")


def _found_from_here(config: pytest.Config) -> bool:
    """Whether root folder and ini file are those that pytest finds without being told."""
    if config.getoption("inifilename") or config.getoption("rootdir"):
        return False
    here = config.invocation_params.dir
    folder = config.inipath.parent if config.inipath else None
    return folder == ini_folder(here) and config.rootpath == (folder or here)


def _ini_words(config: pytest.Config) -> list[str]:
    """Overrides of the ini file, and which file it was where it would not be found again."""
    overrides = config.getoption("override_ini") or ()
    words = [
        word
        for text in map(without_password, overrides)
        if not text.startswith("strict")  # --strict-markers is kept so; it changes no result
        for word in ("-o", text)
    ]
    if not _found_from_here(config):
        words += [f"--rootdir={config.rootpath}", "-c", str(config.inipath or os.devnull)]
    return words
