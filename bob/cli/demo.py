"""``bob demo``: a small battle from nothing, in a minute, without a download."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from bob.errors import BobError, some

BACKBONES = ("convnext_micro_glyphs", "resnet_micro_glyphs", "swin_micro_glyphs")
PROTOCOLS = ("knn", "linear_probe", "retrieval")
PAGE = "board.html"
SETTINGS = "pytest.ini"
INI = "[pytest]\n"
RECORDS = "mlruns"


def add_command(commands: Any) -> None:
    """Add ``bob demo`` to the subcommands."""
    parser = commands.add_parser(
        "demo", help="three small backbones on real digits, in a minute",
        description=f"Puts {', '.join(BACKBONES)} through {', '.join(PROTOCOLS)} at the smoke "
        "scale, in a folder of its own, and writes the board. Nothing is downloaded.",
    )  # fmt: skip
    parser.add_argument("folder", nargs="?", type=Path, default=Path("bob-demo"),
                        help="where to (bob-demo)")  # fmt: skip
    parser.set_defaults(run=_demo)


def _demo(args: argparse.Namespace) -> int:
    folder: Path = args.folder
    _check(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # settings of a project around it are not the demo's
        (folder / SETTINGS).write_text(INI, encoding="utf-8")
    except OSError as error:
        raise BobError(f"Cannot make {folder} ({error.strerror}). Name another folder.") from None
    words = ["--pyargs", "suites", "-c", SETTINGS, "-p", "no:cacheprovider", "-q"]
    words += [f"--backbone={key}" for key in BACKBONES]
    words += ["-m", " or ".join(PROTOCOLS)]
    print(f"cd {shlex.quote(str(folder))} && {shlex.join(['pytest', *words])}", flush=True)
    status = _run(folder, "-m", "pytest", *words)
    if status == 0:
        status = _run(folder, "-m", "bob.cli", "report", "-o", PAGE)
    if status == 0:
        print(
            f"\nThe board: {(folder / PAGE).resolve()}\n"
            f"In {folder}: `bob compare {BACKBONES[1]} {BACKBONES[2]}` tells which is better, "
            "`bob ui` opens MLflow's pages, `bob list backbones` names what else can run."
        )
    return status


def _check(folder: Path) -> None:
    """Leave a folder alone that holds what no demo wrote."""
    try:
        shown = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}
        foreign = sorted(shown - {SETTINGS, PAGE, RECORDS})
        own = (folder / SETTINGS).read_text("utf-8") if (folder / SETTINGS).exists() else INI
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise BobError(f"Cannot use {folder} ({error}). Name another folder.") from None
    if own != INI:
        foreign = [SETTINGS]
    if foreign:
        raise BobError(
            f"{folder} holds {some(foreign)}, which no demo wrote. Name a folder that is empty or "
            "not there yet."
        )


def _run(folder: Path, *words: str) -> int:
    """Run Python in the folder, without the settings of the project around it."""
    names = ("BOB_", "MLFLOW_", "PYTEST_")
    environment = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(names) or name in ("BOB_FEATURES", "BOB_DATA")
    }
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, check=False
    ).returncode
