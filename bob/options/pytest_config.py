"""Options as pytest's: its parser, its ini file, and what a session was told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bob.options.declaration import OPTIONS
from bob.options.option import Option, Said
from bob.options.root_guard import check_root
from bob.options.values import Options, gather

if TYPE_CHECKING:
    import pytest

_INI_FILES = {
    "pytest.toml": "", ".pytest.toml": "", "pytest.ini": "", ".pytest.ini": "",
    "pyproject.toml": "[tool.pytest", "tox.ini": "[pytest]", "setup.cfg": "[tool:pytest]",
}  # fmt: skip
"""Where pytest may be configured, and what the file has then."""

_UNSAID: dict[str, Any] = {"bool": False, "linelist": [], "string": ""}


def add_options(parser: pytest.Parser) -> None:
    """Register every option and its ini key."""
    group = parser.getgroup("bob", "battle of the backbones")
    for option in OPTIONS:
        group.addoption(option.flag, **option.argument(ini=True))
        if option.ini:
            parser.addini(
                option.dest,
                option.help,
                type=option.kind,  # type: ignore[arg-type]
                default=_UNSAID[option.kind],
            )


def typed(config: pytest.Config) -> list[str]:
    """Flags of this plugin that the user typed: not those of ``addopts`` or of the environment."""
    words = [str(word).split("=", 1)[0] for word in config.invocation_params.args]
    return [option.flag for option in OPTIONS if option.flag in words]


def given(config: pytest.Config) -> list[str]:
    """Flags of this plugin that stand on the command line."""
    return [option.flag for option in OPTIONS if config.getoption(option.dest, None) is not None]


def read_options(config: pytest.Config) -> Options:
    """The options of a session: command line before ini file before environment before default.

    Relative paths are taken from the folder where pytest was started, those of the ini file and of
    defaults from its root folder.

    Raises:
        BobError: A value is wrong or has moved the root folder, or ``--checkpoint`` does not go
            with one backbone.
    """
    check_root(config)

    def said(option: Option) -> Said:
        return option.said(
            flag=config.getoption(option.dest),
            ini=config.getini(option.dest) if option.ini else None,
            here=config.invocation_params.dir,
            root=config.rootpath,
        )

    return gather(said, config.rootpath)


def ini_folder(here: Path) -> Path | None:
    """The nearest folder upward that has an ini file of pytest's."""
    for folder in (here, *here.parents):
        for name, section in _INI_FILES.items():
            path = folder / name
            if path.is_file() and section in path.read_text(encoding="utf-8", errors="replace"):
                return folder
    return None
