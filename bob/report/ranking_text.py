"""A ranking as text, Markdown and CSV."""

from __future__ import annotations

from collections.abc import Sequence

from bob.report.cells import Cell
from bob.report.ranking import ALPHA, Ranking, Standing
from bob.tabular import aligned, csv_bytes, markdown

_Table = list[tuple[str, ...]]


def lines(ranking: Ranking) -> list[str]:
    """For the end of a terminal report."""
    return [*aligned(standings(ranking)), "", *aligned(scores(ranking)), "", *notes(ranking)]


def files(ranking: Ranking) -> dict[str, bytes]:
    """``ranking.md`` and ``ranking.csv``, the latter with one row per backbone and setting."""
    parts = (markdown(standings(ranking)), markdown(scores(ranking)), *notes(ranking))
    header = (
        "rank", "tied", "backbone", "mean_z", "wins", "p_next", "disputed", "setting", "score",
        "low", "high", "z",
    )  # fmt: skip
    rows = [
        (
            standing.rank, int(standing.tied), standing.backbone, standing.mean_z, standing.wins,
            _blank(standing.p_next), int(standing.disputed), name, row[standing.backbone].value,
            _blank(row[standing.backbone].low), _blank(row[standing.backbone].high),
            _blank(standing.z.get(name)),
        )
        for standing in ranking.standings
        for name, row in ranking.cells.items()
        if standing.backbone in row
    ]  # fmt: skip
    return {
        "ranking.md": "\n".join(parts).encode() + b"\n",
        "ranking.csv": csv_bytes(header, rows),
    }


def _blank(value: float | None) -> float | str:
    return "" if value is None else value


def standings(ranking: Ranking) -> _Table:
    """Header and one row per backbone, best first."""
    total = len(_compared(ranking))
    return [
        ("rank", "backbone", "mean z", "wins", "settings", "p to next"),
        *(
            (
                f"{'=' if standing.tied else ''}{standing.rank}",
                standing.backbone,
                f"{standing.mean_z:+.2f}",
                str(standing.wins),
                f"{len(standing.z)} of {total}{'*' if len(standing.z) < total else ''}",
                _p(standing),
            )
            for standing in ranking.standings
        ),
    ]


def _p(standing: Standing) -> str:
    if standing.p_next is None:
        return "-"
    return f"{standing.p_next:.3f}{'!' if standing.disputed else ''}"


def _compared(ranking: Ranking) -> set[str]:
    return {name for standing in ranking.standings for name in standing.z}


def scores(ranking: Ranking) -> _Table:
    """Scores and their intervals: settings down and backbones across, or turned if narrower."""
    names, keys = list(ranking.cells), [standing.backbone for standing in ranking.standings]
    if len(keys) <= len(names):
        body = [(name, *(_cell(ranking.cells[name].get(key)) for key in keys)) for name in names]
        return [("setting", *keys), *body]
    body = [(key, *(_cell(ranking.cells[name].get(key)) for name in names)) for key in keys]
    return [("backbone", *names), *body]


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    if cell.low is None or cell.high is None:
        return f"{cell.value:.4f}"
    return f"{cell.value:.4f} [{cell.low:.2f}, {cell.high:.2f}]"


def notes(ranking: Ranking) -> list[str]:
    """What the numbers mean and what they leave out."""
    cells = [cell for row in ranking.cells.values() for cell in row.values()]
    found = ["mean z: each setting's z-score across backbones, averaged."]
    bare = [cell.low is None for cell in cells]
    if not all(bare):
        found[0] += " [ ]: 95 % interval from the number of test images or queries."
    if any(bare) and not all(bare):
        found.append(
            "Scores without [ ] are no means over test images or queries that are known one by one "
            "(an area, a box AP) and say nothing in ties and p."
        )
    if any(standing.tied for standing in ranking.standings):
        found.append(
            f"=: the difference to a neighbour is within noise (p >= {ALPHA:g}) of test images "
            "and, where they matter, of seeds."
        )
    if any(len(standing.z) < len(_compared(ranking)) for standing in ranking.standings):
        found.append("*: ranked on the settings it has a score in; the others compare more.")
    if any(standing.disputed for standing in ranking.standings):
        found.append(
            "!: where both can be compared the next one is ahead; the order comes from other "
            "settings, so that the two are tied whatever p is."
        )
    found.extend(_untested(ranking.standings))
    if not any(standing.one_seed for standing in ranking.standings) and any(
        cell.seeded and cell.seeds == 1 for cell in cells
    ):
        found.append(
            "Some scores were trained on one seed: luck of training is not in their intervals; "
            "--seeds 3 shows it."
        )
    if ranking.unranked:
        found.append(f"Not ranked, without a score to compare: {', '.join(ranking.unranked)}.")
    return found


def _untested(order: Sequence[Standing]) -> list[str]:
    """Why some neighbours have no p."""
    found = []
    if any(standing.one_seed for standing in order):
        found.append(
            "p -: trained on one seed, so that nobody can tell a difference from luck of training; "
            "these places are the order of the scores and no more. --seeds 3 tells."
        )
    if any(standing.p_next is None and not standing.one_seed for standing in order[:-1]):
        found.append("p -: these scores carry no error of their own, so nothing is called a tie.")
    return found
