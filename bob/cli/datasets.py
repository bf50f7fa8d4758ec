"""``bob datasets``: which datasets there are, what of them lies here, and how to get the others."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bob.catalog import Catalog, DatasetEntry, load_catalog, parse_dataset
from bob.catalog.data_root import data_root, place
from bob.errors import BobError
from bob.options.arguments import add_arguments, read_arguments
from bob.protocols import PROTOCOLS

BUILT_IN, PRESENT, MISSING = "built in", "present", "missing"

_MARKDOWN = (
    "dataset", "kind", "classes", "train or database", "test or queries", "metric",
    "needs under the data root", "how to get it", "licence",
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A file or folder that a dataset needs.

    Attributes:
        ways: Paths under the data root, of which any will do.
        found: The first of them that exists; empty when none does.
    """

    ways: tuple[str, ...]
    found: str

    @property
    def text(self) -> str:
        """The path that is there, else all that would do."""
        return self.found or " or ".join(self.ways)


def add_command(commands: Any) -> None:
    """Add ``datasets`` to an argument parser."""
    datasets = commands.add_parser(
        "datasets", help="what each dataset needs, and what of it is here",
        description="Without a key: every dataset of the catalog. Data are looked for in the data "
        "root: BOB_DATA, else bob/data in the user's cache folder. `get NAME...` fetches them, "
        "`verify NAME...` checks what is there and pins the list of files.",
    )  # fmt: skip
    add_arguments(datasets, "datasets")
    datasets.add_argument(
        "keys",
        nargs="*",
        metavar="KEY",
        help="everything about these alone; behind `get` or `verify`: fetch or check them",
    )
    datasets.add_argument("--missing", action="store_true", help="only those that are not here")
    datasets.add_argument("--yes", action="store_true", help="get: fetch without asking")
    form = datasets.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="everything, for programs")
    form.add_argument(
        "--markdown", action="store_true", help="as a Markdown table, the same on every machine"
    )
    datasets.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.keys[:1] in (["get"], ["verify"]):
        from bob.cli import fetching

        return fetching.run(args)
    for flag in ("--scale", "--yes"):
        if getattr(args, {"--scale": "bob_scale", "--yes": "yes"}[flag]):
            raise BobError(f"{flag} goes with `bob datasets get` or `bob datasets verify`.")
    catalog = load_catalog(read_arguments(args).catalogs)
    entries = _chosen(args.keys, catalog)
    if args.missing:
        entries = [entry for entry in entries if state_of(entry) == MISSING]
    if args.json:
        print(json.dumps([record(entry) for entry in entries], indent=2))
    elif args.markdown:
        print(markdown_table(entries), end="")
    elif args.missing and not entries:
        print(f"Nothing is missing under {data_root()}.")
    elif args.keys:
        print("\n\n".join(_page(entry) for entry in entries))
    else:
        print("\n".join(_overview(entries)))
    return 0


def _chosen(keys: Sequence[str], catalog: Catalog) -> list[DatasetEntry]:
    if not keys:
        return [entry for _, entry in sorted(catalog.datasets.items())]
    return [parse_dataset(key, catalog) for key in dict.fromkeys(keys)]


def places(entry: DatasetEntry) -> list[Place]:
    """What a dataset needs, and where it is."""
    found = []
    for need in entry.needs:
        path = place(need)
        found.append(Place(tuple(need.split("|")), _shown(path) if path else ""))
    return found


def _shown(path: Path) -> str:
    """A path under the data root without the root; one of a system's package as it is."""
    inside = path.is_relative_to(data_root())
    return (path.relative_to(data_root()) if inside else path).as_posix()


def state_of(entry: DatasetEntry) -> str:
    """``built in`` where nothing has to be there, else ``present`` or ``missing``."""
    path = entry.options.get("path")
    if not entry.needs and not isinstance(path, str):
        return BUILT_IN
    own = path is None or Path(str(path)).exists()
    return PRESENT if own and all(place.found for place in places(entry)) else MISSING


def metrics_of(entry: DatasetEntry) -> dict[str, str]:
    """The judged score of each task that runs on a dataset; tasks made for its kind first."""
    tasks = [task for task in PROTOCOLS.values() if task.takes(entry.kind)]
    return {
        task.name: next(
            judged.name for judged in task.judged if not judged.kinds or entry.kind in judged.kinds
        )
        for task in sorted(tasks, key=lambda task: task.data != entry.kind)
    }


def record(entry: DatasetEntry) -> dict[str, Any]:
    """All there is to say of a dataset, for JSON."""
    return {
        **entry.model_dump(
            mode="json",
            include={
                "key", "kind", "classes", "train_size", "test_size", "licence", "obtain", "note",
                "loader", "options", "sha256",
            },
        ),
        "metrics": metrics_of(entry),
        "state": state_of(entry),
        "data_root": str(data_root()),
        "needs": [
            {"any_of": list(need.ways), "found": need.found or None} for need in places(entry)
        ],
    }  # fmt: skip


def markdown_table(entries: Iterable[DatasetEntry]) -> str:
    """Datasets as a Markdown table in which nothing depends on the machine."""
    from bob.shown import markdown_cell
    from bob.tabular import markdown

    rows: list[tuple[str, ...]] = [_MARKDOWN]
    for entry in entries:
        needs = "<br>".join(f"`{need.replace('|', '` or `')}`" for need in entry.needs)
        cells = (
            f"`{entry.key}`", entry.kind, *_sizes(entry, "-"), _metric(entry), needs or BUILT_IN,
            entry.obtain or "-", entry.licence or "-",
        )  # fmt: skip
        rows.append(tuple(markdown_cell(cell) for cell in cells))
    return markdown(rows, literal=False)


def _sizes(entry: DatasetEntry, unknown: str) -> tuple[str, str, str]:
    train, test = (f"{n:,}" if n else unknown for n in (entry.train_size, entry.test_size))
    return f"{entry.classes:,}" if entry.classes else unknown, train, test


def _metric(entry: DatasetEntry) -> str:
    return ", ".join(dict.fromkeys(metrics_of(entry).values())) or "-"


def _overview(entries: Sequence[DatasetEntry]) -> list[str]:
    """A table, then what lies where and how to get the rest."""
    from bob.tabular import aligned

    states = {entry.key: state_of(entry) for entry in entries}
    rows = [("dataset", "kind", "classes", "train", "test", "metric", "state", "licence")]
    rows += [
        (
            entry.key,
            entry.kind,
            *_sizes(entry, "?"),
            _metric(entry),
            states[entry.key],
            entry.licence,
        )
        for entry in entries
    ]
    lines = aligned(rows)
    for state in (PRESENT, MISSING):
        chosen = [entry for entry in entries if states[entry.key] == state]
        if chosen:
            lines += ["", f"{state} under {data_root()}:"]
            lines += [f"  {entry.key}: {_whereabouts(entry, state)}" for entry in chosen]
    counted = Counter(states.values())
    told = ", ".join(f"{counted[state]} {state}" for state in (BUILT_IN, PRESENT, MISSING))
    return [*lines, "", f"{len(entries)} datasets: {told}"]


def _whereabouts(entry: DatasetEntry, state: str) -> str:
    own = [str(entry.options["path"])] if "path" in entry.options else []
    if state == PRESENT:
        return ", ".join([*own, *(place.text for place in places(entry))])
    absent = [path for path in own if not Path(path).exists()]
    absent += [place.text for place in places(entry) if not place.found]
    return f"no {', no '.join(absent)}. {entry.obtain}".rstrip()


def _fetched(entry: DatasetEntry) -> str:
    """What ``get`` does for a dataset; empty where nothing has to be fetched."""
    offered = entry.download
    if not entry.needs or (offered is None and not entry.obtain):
        return ""
    if offered is None or not offered.files:
        return f"hand: {offered.form if offered else 'no plain address is known.'}"
    known = all(
        file.md5 or file.sha256 or file.md5_url or file.torchvision for file in offered.files
    )
    checked = (
        "digests published"
        if known
        else ("no digest published for all: list of files pinned on first verify")
    )
    form = f"; {offered.form}" if offered.form else ""
    return f"`bob datasets get {entry.key}` ({checked}){form}"


def _page(entry: DatasetEntry) -> str:
    """Everything about one dataset, a line each."""
    retrieval = entry.kind == "retrieval"
    classes, train, test = _sizes(entry, "not known for certain")
    scores = metrics_of(entry)
    judged = [
        f"{metric} ({', '.join(task for task, of in scores.items() if of == metric)})"
        for metric in dict.fromkeys(scores.values())
    ]
    lines = [
        ("kind", entry.kind),
        ("classes", classes),
        ("database" if retrieval else "train", train),
        ("queries" if retrieval else "test", test),
        ("judged", ", ".join(judged) or "by no task yet"),
        ("state", state_of(entry)),
    ]
    if "path" in entry.options:
        lines.append(("path", str(entry.options["path"])))
    if entry.needs:
        lines.append(("data root", str(data_root())))
        lines += [
            ("needs", f"{place.text}: {PRESENT if place.found else MISSING}")
            for place in places(entry)
        ]
    options = ", ".join(f"{name}: {value}" for name, value in entry.options.items())
    lines += [
        ("how to get it", entry.obtain),
        ("fetched by", _fetched(entry)),
        ("licence", entry.licence),
        ("loader", entry.loader),
        ("options", options),
        ("note", entry.note),
    ]
    return "\n".join([entry.key, *(f"  {name:<14} {text}" for name, text in lines if text)])
