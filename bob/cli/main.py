"""``bob``: look at the catalog, a plan, the store and the machine without running anything."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bob import __version__
from bob.catalog import Catalog, installed_backbones, load_catalog
from bob.catalog.table import backbone_table
from bob.cli import datasets, features, outcomes, plan, profile, sync
from bob.cli.streams import shown_streams
from bob.errors import BobError
from bob.executors import executor_names
from bob.intervals import mean, square_spread
from bob.options import OPTIONS, option_table
from bob.protocols import PROTOCOLS

_PACKAGES = (
    "pytest", "mlflow", "torch", "torchvision", "timm", "torchmetrics", "lightning-fabric",
    "detectron2",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit status."""
    with shown_streams():
        return _main(arguments)


def _main(arguments: Sequence[str] | None) -> int:
    args = _parser().parse_args(arguments)
    own = Path("bob.yaml")
    if hasattr(args, "catalog") and own.is_file():
        named = {path.resolve() for path in args.catalog}
        args.catalog = [*([] if own.resolve() in named else [own]), *args.catalog]
    try:
        status: int = args.run(args)
        return status
    except BobError as error:
        print(f"bob: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bob",
        description="Battle of the backbones. The benchmark itself runs with pytest: "
        "`pytest --pyargs suites -k swin`.",
    )
    parser.add_argument("--version", action="version", version=f"bob {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--catalog",
        action="append",
        type=Path,
        default=[],
        help="further catalog file, beside ./bob.yaml",
    )

    listing = commands.add_parser("list", parents=[shared], help="what the catalog knows")
    listing.add_argument(
        "what",
        choices=(
            "backbones", "datasets", "tasks", "scales", "executors", "options", "references",
            "published",
        ),
    )  # fmt: skip
    listing.add_argument(
        "names", nargs="*", help="of `published`: catalog keys or timm:NAME; all by default"
    )
    listing.add_argument(
        "--references", type=Path, default=Path("references"), help="folder of your own references"
    )
    listing.add_argument(
        "--markdown", action="store_true", help="backbones or options as a Markdown table"
    )
    listing.set_defaults(run=_list)

    plan.add_command(commands, shared)

    profile.add_command(commands, shared)

    doctor = commands.add_parser("doctor", parents=[shared], help="is everything in place?")
    doctor.add_argument("--tracking-uri", default=os.environ.get("MLFLOW_TRACKING_URI", ""))
    doctor.set_defaults(run=_doctor)

    datasets.add_command(commands, shared)
    features.add_command(commands)
    sync.add_command(commands)
    outcomes.add_command(commands)

    ui = commands.add_parser("ui", help="MLflow's pages over the local store")
    ui.add_argument("--tracking-uri", default=os.environ.get("MLFLOW_TRACKING_URI", ""))
    ui.add_argument("--port", type=int, default=5000)
    ui.set_defaults(run=_ui)
    return parser


def _list(args: argparse.Namespace) -> int:
    catalog = installed_backbones(load_catalog(args.catalog))
    if args.names and args.what != "published":
        raise BobError(f"`bob list {args.what}` takes no further names ({args.names[0]!r}).")
    if args.markdown:
        if args.what not in ("backbones", "options"):
            raise BobError(f"bob list {args.what} has no Markdown form; bob list backbones has.")
        table = backbone_table(catalog.backbones.values())
        print(option_table() if args.what == "options" else table)
        return 0
    if args.what == "tasks":
        for problem in PROTOCOLS.problems:
            print(f"bob: {problem}", file=sys.stderr)
    if args.what == "published":
        rows = _published(args.names)
    elif args.what == "references":
        rows = _references(args.references, catalog)
    else:
        rows = _listing(args.what, catalog)
    width = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        print(f"{name:<{width}}  {text}".rstrip())
    return 0


def _listing(what: str, catalog: Catalog) -> list[tuple[str, str]]:
    if what == "backbones":
        return [
            (key, f"{entry.family}, pretraining {entry.pretraining}; {entry.note}")
            for key, entry in sorted(catalog.backbones.items())
        ]
    if what == "datasets":
        return [
            (
                key,
                f"{entry.classes or '?'} classes, {entry.test_size or '?'} "
                f"{'queries' if entry.kind == 'retrieval' else 'test images'}; {entry.note}",
            )
            for key, entry in sorted(catalog.datasets.items())
        ]
    if what == "tasks":
        return [(task.name, task.description) for task in PROTOCOLS.values()]
    if what == "options":
        return [(option.flag, option.help) for option in OPTIONS]
    if what == "scales":
        return [(key, entry.description) for key, entry in sorted(catalog.scales.items())]
    return [(name, "") for name in executor_names()]


def _references(folder: Path, catalog: Catalog) -> list[tuple[str, str]]:
    from bob.references.files import ReferenceStore

    rows = []
    for scale in sorted(catalog.scales):
        for file, setting, reference in ReferenceStore(folder).all(scale):
            values = reference.metric(PROTOCOLS[setting.split("/", 1)[0]].metric)
            spread = f" ± {math.sqrt(square_spread(values)):.4f}" if len(values) > 1 else ""
            text = (
                f"{mean(values):.4f}{spread} over {len(values)} seeds, {reference.origin} "
                f"{reference.recorded}"
            )
            rows.append((f"{scale} {setting} {file.backbone}", text))
    return rows


def _published(names: Sequence[str]) -> list[tuple[str, str]]:
    from bob.errors import unknown
    from bob.references.published import published_scores

    scores = published_scores()
    known = {name for one in scores for name in (one.backbone, one.checkpoint) if name}
    for name in names:
        if name not in known:
            hint = "`bob list published` prints every published score."
            raise unknown("backbone", name, known, hint=hint)
    return [
        (
            f"{one.backbone or one.checkpoint} {one.task}/{one.dataset} {one.metric}",
            f"{one.value:.4f} ± {one.width:.4f} at {one.image_size} px, {one.setting}; "
            f"{one.source}",
        )
        for one in scores
        if not names or one.backbone in names or one.checkpoint in names
    ]


def _doctor(args: argparse.Namespace) -> int:
    from bob.hashing import digest_of_file
    from bob.tracking import check_reachable, resolve_store

    problems = 0

    def line(good: bool, what: str, text: str) -> None:
        nonlocal problems
        problems += not good
        print(f"{'ok  ' if good else 'BAD '}  {what:<18}  {text}")

    for package in _PACKAGES:
        try:
            line(True, package, version(package))
        except PackageNotFoundError:
            optional = package == "detectron2"
            line(optional, package, "not installed" + (" (optional)" if optional else ""))
    try:
        import torch

        devices = torch.cuda.device_count()
        name = torch.cuda.get_device_name(0) if devices else "none; cases run on the CPU"
        line(True, "CUDA", name)
    except ImportError as error:
        line(False, "torch", str(error))
    for problem in PROTOCOLS.problems:
        line(False, "protocol", problem)
    catalog = load_catalog(args.catalog)
    for key, entry in sorted(catalog.backbones.items()):
        if entry.weights is None or not entry.weights.file:
            continue
        path = Path(entry.weights.file)
        if not path.is_file():
            line(False, key, f"no file {path}")
        elif entry.weights.sha256:
            good = digest_of_file(path) == entry.weights.sha256
            line(good, key, "weights match" if good else f"{path}: digest differs from the catalog")
    try:
        store = resolve_store(Path.cwd(), args.tracking_uri)
        check_reachable(store)
        line(True, "MLflow store", store.uri)
    except BobError as error:
        line(False, "MLflow store", str(error))
    return 1 if problems else 0


def _ui(args: argparse.Namespace) -> int:
    from bob.tracking import resolve_store

    store = resolve_store(Path.cwd(), args.tracking_uri)
    if store.uri.startswith("http"):
        print(f"The store is a server; its pages are at {store.uri}")
        return 0
    command = [
        sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store.uri,
        "--port", str(args.port),
    ]  # fmt: skip
    os.execv(sys.executable, command)
