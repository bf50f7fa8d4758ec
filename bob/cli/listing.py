"""``bob list``: what the catalog and the installed packages have."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bob.catalog import BackboneEntry, Catalog, installed_backbones, load_catalog
from bob.catalog.schema import ScaleEntry
from bob.catalog.table import backbone_table
from bob.errors import BobError, unknown
from bob.executors import executor_names
from bob.intervals import mean, square_spread
from bob.options import OPTIONS, option_table
from bob.options.arguments import add_arguments, given, read_arguments
from bob.protocols import PROTOCOLS

Rows = list[tuple[str, str]]


def add_command(commands: Any) -> None:
    """Add ``list`` to an argument parser."""
    parser = commands.add_parser(
        "list", help="what the catalog knows",
        description="With --scale, what that scale has of backbones, datasets, tasks or "
        "references; everything without.",
    )  # fmt: skip
    parser.add_argument("what", choices=(*_OF_CATALOG, *_OTHERS))
    parser.add_argument(
        "names", nargs="*", help="of `published`: catalog keys or timm:NAME; all by default"
    )
    add_arguments(parser, "list")
    parser.add_argument(
        "--markdown", action="store_true", help="backbones or options as a Markdown table"
    )
    parser.add_argument(
        "--power", action="store_true",
        help="of `references`: the drop of each case's score that is seen in four cases of five",
    )  # fmt: skip
    parser.set_defaults(run=_list)


def _list(args: argparse.Namespace) -> int:
    options = read_arguments(args)
    what = args.what
    if args.names and what != "published":
        raise BobError(f"`bob list {what}` takes no further names ({args.names[0]!r}).")
    if given(args, "--scale") and what not in (*_OF_CATALOG, "references"):
        raise BobError(f"`bob list {what}` takes no --scale: no scale has {what} of its own.")
    if args.power and what != "references":
        raise BobError(f"`bob list {what}` takes no --power: it is of `bob list references`.")
    catalog = installed_backbones(load_catalog(options.catalogs))
    scale = catalog.scale(options.scale) if given(args, "--scale") else None
    if args.power:
        from bob.cli.power import power_lines

        print("\n".join(power_lines(catalog, options.selection, options.references)))
        return 0
    if args.markdown:
        print(_markdown(what, catalog, scale))
        return 0
    if what in _OF_CATALOG:
        rows = _OF_CATALOG[what](catalog, scale)
    elif what == "references":
        rows = _references(options.references, [scale.key] if scale else sorted(catalog.scales))
    elif what == "published":
        rows = _published(args.names)
    elif what == "options":
        rows = [(option.flag, option.help) for option in OPTIONS]
    else:
        rows = [(name, "") for name in executor_names()]
    width = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        print(f"{name:<{width}}  {text}".rstrip())
    return 0


def _markdown(what: str, catalog: Catalog, scale: ScaleEntry | None) -> str:
    if what == "options":
        return option_table()
    if what == "backbones":
        return backbone_table(_backbones_of(catalog, scale))
    raise BobError(f"bob list {what} has no Markdown form; bob list backbones has.")


def _backbones_of(catalog: Catalog, scale: ScaleEntry | None) -> list[BackboneEntry]:
    entries = catalog.backbones.values()
    return [entry for entry in entries if scale is None or scale.key in entry.scales]


def _backbones(catalog: Catalog, scale: ScaleEntry | None) -> Rows:
    return [
        (entry.key, f"{entry.family}, pretraining {entry.pretraining}; {entry.note}")
        for entry in sorted(_backbones_of(catalog, scale), key=lambda entry: entry.key)
    ]


def _datasets(catalog: Catalog, scale: ScaleEntry | None) -> Rows:
    keys = set(catalog.datasets)
    if scale is not None:
        keys = {key for task in scale.tasks.values() for key in task.datasets}
    return [
        (
            key,
            f"{entry.classes or '?'} classes, {entry.test_size or '?'} "
            f"{'queries' if entry.kind == 'retrieval' else 'test images'}; {entry.note}",
        )
        for key, entry in sorted(catalog.datasets.items())
        if key in keys
    ]


def _tasks(catalog: Catalog, scale: ScaleEntry | None) -> Rows:
    for problem in PROTOCOLS.problems:
        print(f"bob: {problem}", file=sys.stderr)
    return [
        (task.name, task.description)
        for task in PROTOCOLS.values()
        if scale is None or task.name in scale.tasks
    ]


def _scales(catalog: Catalog, scale: ScaleEntry | None) -> Rows:
    entries = catalog.scales.values() if scale is None else [scale]
    return sorted((entry.key, entry.description) for entry in entries)


_OF_CATALOG: dict[str, Callable[[Catalog, ScaleEntry | None], Rows]] = {
    "backbones": _backbones, "datasets": _datasets, "tasks": _tasks, "scales": _scales,
}  # fmt: skip
"""What a catalog has; with a scale, what that scale has of it."""

_OTHERS = ("executors", "options", "references", "published")


def _references(folder: Path, scales: Sequence[str]) -> Rows:
    from bob.references.files import ReferenceStore

    rows = []
    for scale in scales:
        for file, setting, reference in ReferenceStore(folder).all(scale):
            values = reference.metric(PROTOCOLS[setting.split("/", 1)[0]].metric)
            spread = f" ± {math.sqrt(square_spread(values)):.4f}" if len(values) > 1 else ""
            text = (
                f"{mean(values):.4f}{spread} over {len(values)} seeds, {reference.origin} "
                f"{reference.recorded}"
            )
            rows.append((f"{scale} {setting} {file.backbone}", text))
    return rows


def _published(names: Sequence[str]) -> Rows:
    from bob.references.published import published_scores

    scores = published_scores()
    known = {name for score in scores for name in (score.backbone, score.checkpoint) if name}
    for name in names:
        if name not in known:
            hint = "`bob list published` prints every published score."
            raise unknown("backbone", name, known, hint=hint)
    return [
        (
            f"{score.backbone or score.checkpoint} {score.task}/{score.dataset} {score.metric}",
            f"{score.value:.4f} ± {score.width:.4f} at {score.image_size} px, {score.setting}; "
            f"{score.source}",
        )
        for score in scores
        if not names or score.backbone in names or score.checkpoint in names
    ]
