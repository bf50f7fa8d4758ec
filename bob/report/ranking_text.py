"""A ranking as text, Markdown and CSV."""

from __future__ import annotations

from collections.abc import Sequence

from bob.report.ranking import ALPHA, Cell, Ranking, Standing
from bob.tabular import aligned, csv_bytes, markdown

_Table = list[tuple[str, ...]]


def lines(ranking: Ranking) -> list[str]:
    """For the end of a terminal report."""
    return [*aligned(standings(ranking)), "", *aligned(scores(ranking)), "", *notes(ranking)]


def files(ranking: Ranking) -> dict[str, bytes]:
    """``ranking.md`` and ``ranking.csv``, the latter with one row per backbone and setting."""
    parts = (markdown(standings(ranking)), markdown(scores(ranking)), *notes(ranking))
    header = (
        "rank", "tied", "backbone", "mean_z", "wins", "p_next", "setting", "score", "low", "high",
        "z",
    )  # fmt: skip
    rows = [
        (
            one.rank, int(one.tied), one.backbone, one.mean_z, one.wins, _blank(one.p_next), name,
            row[one.backbone].value, _blank(row[one.backbone].low), _blank(row[one.backbone].high),
            _blank(one.z.get(name)),
        )
        for one in ranking.standings
        for name, row in ranking.cells.items()
        if one.backbone in row
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
                f"{'=' if one.tied else ''}{one.rank}",
                one.backbone,
                f"{one.mean_z:+.2f}",
                str(one.wins),
                f"{len(one.z)} of {total}{'*' if len(one.z) < total else ''}",
                "-" if one.p_next is None else f"{one.p_next:.3f}",
            )
            for one in ranking.standings
        ),
    ]


def _compared(ranking: Ranking) -> set[str]:
    return {name for one in ranking.standings for name in one.z}


def scores(ranking: Ranking) -> _Table:
    """Scores and their intervals: settings down and backbones across, or turned if narrower."""
    names, keys = list(ranking.cells), [one.backbone for one in ranking.standings]
    if len(keys) <= len(names):
        body = [(name, *(_cell(ranking.cells[name].get(key)) for key in keys)) for name in names]
        return [("setting", *keys), *body]
    body = [(key, *(_cell(ranking.cells[name].get(key)) for name in names)) for key in keys]
    return [("backbone", *names), *body]


def _cell(one: Cell | None) -> str:
    if one is None:
        return "-"
    if one.low is None or one.high is None:
        return f"{one.value:.4f}"
    return f"{one.value:.4f} [{one.low:.2f}, {one.high:.2f}]"


def notes(ranking: Ranking) -> list[str]:
    """What the numbers mean and what they leave out."""
    cells = [one for row in ranking.cells.values() for one in row.values()]
    found = [
        "mean z: each setting's z-score across backbones, averaged. [ ]: 95 % interval from the "
        "number of test images.",
    ]
    if any(one.tied for one in ranking.standings):
        found.append(
            f"=: the difference to a neighbour is within noise (p >= {ALPHA:g}, paired by test "
            "image)."
        )
    if any(len(one.z) < len(_compared(ranking)) for one in ranking.standings):
        found.append("*: ranked on the settings it has a score in; the others compare more.")
    if any(one.seeded and one.seeds == 1 for one in cells):
        found.append(
            "Some scores were trained on one seed: luck of training is in no interval and no p; "
            "--seeds 3 shows it."
        )
    if _untested(ranking.standings):
        found.append("p -: these scores carry no error per image, so nothing is called a tie.")
    if ranking.unranked:
        found.append(f"Not ranked, without a score to compare: {', '.join(ranking.unranked)}.")
    return found


def _untested(order: Sequence[Standing]) -> bool:
    return any(one.p_next is None for one in order[:-1])
