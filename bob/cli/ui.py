"""``bob ui``: MLflow's pages over the local store."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from bob.options.arguments import add_arguments, read_arguments


def add_command(commands: Any) -> None:
    """Add ``ui`` to an argument parser."""
    parser = commands.add_parser("ui", help="MLflow's pages over the local store")
    add_arguments(parser, "ui")
    parser.add_argument("--port", type=int, default=5000)
    parser.set_defaults(run=_ui)


def _ui(args: argparse.Namespace) -> int:
    from bob.tracking import resolve_store

    store = resolve_store(Path.cwd(), read_arguments(args).tracking_uri)
    if store.remote:
        print(f"The store is a server; its pages are at {store.uri}")
        return 0
    command = [sys.executable, "-m", "mlflow", "ui", "--port", str(args.port)]
    # by a variable: everybody on the machine sees the words of a command, and the password in them
    os.execve(sys.executable, command, {**os.environ, "MLFLOW_BACKEND_STORE_URI": store.address})
