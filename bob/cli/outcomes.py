"""``bob outcomes``: what a result says of each sample, query or detection, as CSV."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add_command(commands: Any) -> None:
    """Add ``bob outcomes`` to the subcommands."""
    parser = commands.add_parser(
        "outcomes",
        help="outcomes of a result per sample, query or detection, as CSV",
        description="Reads a folder of the ledger (mlruns/ledger/SESSION/ENTRY), or a file "
        "outcomes.npz, queries.npz, contributions.npz or detections.npz from MLflow.",
    )
    parser.add_argument("path", type=Path, help="folder of an entry, or .npz file")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="where to; printed by default")
    parser.set_defaults(run=_outcomes)


def _outcomes(args: argparse.Namespace) -> int:
    content = outcome_table(args.path)
    if args.csv is None:
        sys.stdout.write(content.decode())
    else:
        args.csv.write_bytes(content)
    return 0


def outcome_table(path: Path) -> bytes:
    """The outcomes under a path as CSV.

    Raises:
        BobError: There are none, or the file cannot be read.
    """
    from bob.artifacts.files import CONTRIBUTIONS, detection_table, sample_table
    from bob.errors import BobError, unknown
    from bob.ledger.reading import MALFORMED, MOST_BYTES, Unreadable, arrays_in, check_size
    from bob.regular_files import read_regular
    from bob.tabular import csv_bytes

    file = path / "arrays.npz" if path.is_dir() else path
    if not file.is_file():
        if path.is_dir():
            raise BobError(f"{path} holds no outcomes: its protocol has none, or the case failed.")
        near = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise unknown("entry", path.name, near, hint=f"Looked in {path.parent}.")
    try:
        check_size(file.name, file.stat().st_size, most=MOST_BYTES)
        arrays = arrays_in(read_regular(file), file.name)
    except (Unreadable, *MALFORMED) as error:
        raise BobError(f"{file} is not a file of outcomes ({error}).") from None
    if "targets" in arrays:
        return sample_table(arrays)
    if "first_ranks" in arrays:
        columns = zip(
            arrays["average_precisions"].tolist(), arrays["first_ranks"].tolist(), strict=True
        )
        rows = [(query, *row) for query, row in enumerate(columns)]
        return csv_bytes(("query", "average_precision", "first_rank"), rows)
    if CONTRIBUTIONS in arrays:
        return csv_bytes(("image", "contribution"), enumerate(arrays[CONTRIBUTIONS].tolist()))
    if "box_matched" in arrays:
        return detection_table(arrays)
    raise BobError(f"{file} holds neither samples nor queries; it has {', '.join(arrays)}.")
