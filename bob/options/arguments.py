"""Options as arguments of the command ``bob``."""

from __future__ import annotations

import argparse
from pathlib import Path

from bob.options.declaration import OPTIONS
from bob.options.option import Option, Said
from bob.options.values import Options, gather


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """Add every option that a command of ``bob`` takes."""
    for option in OPTIONS:
        if command in option.commands:
            add_argument(parser, option)


def add_argument(parser: argparse.ArgumentParser, option: Option) -> None:
    """Add one option; ``read_arguments`` reads it."""
    flags = [option.flag, *([option.alias] if option.alias else [])]
    parser.add_argument(*flags, **option.argument(ini=False))


def given(args: argparse.Namespace, flag: str) -> bool:
    """Whether a flag stands on the command line."""
    option = next(option for option in OPTIONS if option.flag == flag)
    return getattr(args, option.dest, None) is not None


def read_arguments(args: argparse.Namespace) -> Options:
    """The options of a command: command line before environment before default.

    Relative paths are taken from the working directory. An option that the command does not take
    has what the environment says of it, or its default.

    Raises:
        BobError: A value is wrong.
    """
    here = Path.cwd()

    def said(option: Option) -> Said:
        return option.said(flag=getattr(args, option.dest, None), here=here, root=here)

    return gather(said, here)
