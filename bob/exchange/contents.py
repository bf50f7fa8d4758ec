"""What an export is about: settings, backbones and datasets, with what the catalog says of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bob.catalog import Catalog
from bob.ledger.score import PUBLISHED, Score, ordered_tasks

CITATION = """\
@inproceedings{goldblum2023battle,
  title = {Battle of the Backbones: A Large-Scale Comparison of Pretrained Models across Computer
           Vision Tasks},
  author = {Goldblum, Micah and Souri, Hossein and others},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2023},
  eprint = {2310.19909},
  archivePrefix = {arXiv}
}"""
"""Of the paper whose protocols these are."""

_HUB = "https://huggingface.co/"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A backbone of an export.

    Attributes:
        architecture: Its usual name; empty where the catalog has none.
        licence: Of the weights; empty where nobody said.
        url: Page of the publisher; empty where it is not known.
        model: Name on the Hugging Face hub, ``OWNER/NAME``; empty where it is not there.
    """

    backbone: str
    architecture: str = ""
    family: str = ""
    pretraining: str = ""
    licence: str = ""
    url: str = ""
    model: str = ""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A dataset of the Hugging Face hub.

    Attributes:
        id: ``OWNER/NAME``.
        task: The benchmark's own name of a task; empty where it is none.
    """

    id: str
    task: str = ""


@dataclass(frozen=True, kw_only=True)
class Asker:
    """What the person who exports says, and nobody else can know; empty where nothing was said.

    Attributes:
        licence: Of the results.
        creator: Who made them.
        developer: Who made the backbones that the catalog does not place on the hub.
        url: Where they are published.
        benchmarks: By setting or dataset, which one of the Hugging Face hub it is.
    """

    licence: str = ""
    creator: str = ""
    developer: str = ""
    url: str = ""
    benchmarks: Mapping[str, Benchmark] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One metric of a backbone in a setting, over its seeds.

    Attributes:
        value: Mean over seeds.
        by_seed: In order.
        row: The newest row.
    """

    value: float
    by_seed: tuple[tuple[int, float], ...]
    row: Score


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What an export is about.

    Attributes:
        scale: Its name.
        cells: Of measured scores that count, by backbone; judged metrics alone, scores proper
            first, in the order of the protocols.
        subjects: By backbone.
        data_licences: By dataset; empty where nobody said.
    """

    scale: str
    cells: Mapping[str, tuple[Cell, ...]]
    subjects: Mapping[str, Subject]
    data_licences: Mapping[str, str]


def contents(
    counting: Iterable[Score], rows: Iterable[Score], *, scale: str, catalog: Catalog
) -> Contents:
    """What some rows are about.

    Args:
        counting: Judged rows that count now, a row a seed.
        rows: All rows of the export.
        scale: Their scale.
        catalog: What is known of backbones and datasets.
    """
    groups: dict[str, dict[tuple[str, str], list[Score]]] = {}
    counting = [row for row in counting if row.role != PUBLISHED and row.unit]
    for row in counting:
        cells = groups.setdefault(row.backbone, {})
        cells.setdefault((row.setting, row.metric), []).append(row)
    order = {task: place for place, task in enumerate(ordered_tasks(counting))}
    everything = list(rows)
    return Contents(
        scale=scale,
        cells={
            backbone: tuple(
                sorted(
                    map(_cell, cells.values()),
                    key=lambda cell: (
                        order[cell.row.task], cell.row.setting, not cell.row.is_score,
                        cell.row.metric,
                    ),
                )
            )
            for backbone, cells in sorted(groups.items())
        },
        subjects={row.backbone: _subject(row, catalog) for row in everything},
        data_licences={row.dataset: _licence(row.dataset, catalog) for row in everything},
    )  # fmt: skip


def _cell(rows: list[Score]) -> Cell:
    from bob.intervals import mean

    rows = sorted(rows, key=lambda row: row.seed)
    return Cell(
        value=mean([row.value for row in rows]),
        by_seed=tuple((row.seed, row.value) for row in rows),
        row=max(rows, key=lambda row: row.time),
    )


def _subject(row: Score, catalog: Catalog) -> Subject:
    entry = catalog.backbones.get(row.backbone)
    if entry is None:
        return Subject(backbone=row.backbone, family=row.family, pretraining=row.pretraining)
    hub = entry.url.removeprefix(_HUB) if entry.url.startswith(_HUB) else ""
    return Subject(
        backbone=row.backbone,
        architecture=entry.architecture,
        family=entry.family,
        pretraining=entry.pretraining,
        licence=entry.licence,
        url=entry.url,
        model=hub if hub.count("/") == 1 and not hub.endswith("/") else "",
    )


def _licence(dataset: str, catalog: Catalog) -> str:
    entry = catalog.datasets.get(dataset)
    return entry.licence if entry else ""
