"""``bob doctor``: is everything in place?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from bob.catalog import Catalog, load_catalog
from bob.errors import BobError
from bob.options.arguments import add_arguments, read_arguments
from bob.protocols import PROTOCOLS

_PACKAGES = (
    "pytest", "mlflow", "torch", "torchvision", "timm", "torchmetrics", "lightning-fabric",
    "detectron2",
)  # fmt: skip
_OPTIONAL = ("detectron2",)


class Finding(NamedTuple):
    """What was looked at and found."""

    good: bool
    what: str
    text: str


def add_command(commands: Any) -> None:
    """Add ``doctor`` to an argument parser."""
    parser = commands.add_parser("doctor", help="is everything in place?")
    add_arguments(parser, "doctor")
    parser.set_defaults(run=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    options = read_arguments(args)
    problems = 0
    for finding in _findings(load_catalog(options.catalogs), options.tracking_uri):
        problems += not finding.good
        print(f"{'ok  ' if finding.good else 'BAD '}  {finding.what:<18}  {finding.text}")
    return 1 if problems else 0


def _findings(catalog: Catalog, tracking_uri: str) -> Iterator[Finding]:
    yield from map(_package, _PACKAGES)
    yield _devices()
    for problem in PROTOCOLS.problems:
        yield Finding(False, "protocol", problem)
    yield from _weights(catalog)
    yield _store(tracking_uri)


def _package(package: str) -> Finding:
    try:
        return Finding(True, package, version(package))
    except PackageNotFoundError:
        optional = package in _OPTIONAL
        return Finding(optional, package, "not installed" + (" (optional)" if optional else ""))


def _devices() -> Finding:
    try:
        import torch
    except ImportError as error:
        return Finding(False, "torch", str(error))
    present = torch.cuda.device_count()
    name = torch.cuda.get_device_name(0) if present else "none; cases run on the CPU"
    return Finding(True, "CUDA", name)


def _weights(catalog: Catalog) -> Iterator[Finding]:
    from bob.hashing import digest_of_file

    for key, entry in sorted(catalog.backbones.items()):
        if entry.weights is None or not entry.weights.file:
            continue
        path = Path(entry.weights.file)
        if not path.is_file():
            yield Finding(False, key, f"no file {path}")
        elif entry.weights.sha256:
            good = digest_of_file(path) == entry.weights.sha256
            text = "weights match" if good else f"{path}: digest differs from the catalog"
            yield Finding(good, key, text)


def _store(tracking_uri: str) -> Finding:
    from bob.tracking import check_reachable, resolve_store

    try:
        store = resolve_store(Path.cwd(), tracking_uri)
        check_reachable(store)
    except BobError as error:
        return Finding(False, "MLflow store", str(error))
    return Finding(True, "MLflow store", store.uri)
