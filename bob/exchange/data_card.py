"""The README of an export: what it is, how it was made, and what may be done with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from bob.exchange.bundle import OUTCOMES_FILE, SCORES_FILE, Bundle
from bob.exchange.columns import OUTCOMES, SCHEMA, SCORES, WORDS
from bob.exchange.contents import CITATION, Asker, Contents
from bob.ledger.score import PUBLISHED, Score
from bob.shown import markdown_text
from bob.tabular import markdown

UNKNOWN = "not known"


def data_card(bundle: Bundle, told: Contents, asker: Asker, *, files: Sequence[str]) -> str:
    """Markdown with the front matter of a dataset card of the Hugging Face hub."""
    rows = bundle.scores
    published = sum(row.role == PUBLISHED for row in rows)
    told_published = (
        f" {published:,} values are published ones, read off tables of others; nobody measured "
        "them here."
        if published
        else ""
    )
    title = f"Scores of vision backbones, scale {told.scale}"
    parts = [
        f"---\n{_front(title, asker, files)}---",
        f"# {markdown_text(title)}",
        f"{len(rows):,} values of {len({row.metric for row in rows})} metrics: "
        f"{len({row.backbone for row in rows})} backbones in "
        f"{len({row.setting for row in rows})} settings, "
        f"{len({row.run for row in rows if row.role != PUBLISHED})} runs, and outcomes per image "
        f"or query of {len(bundle.units) if OUTCOMES_FILE in files else 0} of them."
        + told_published,
        "## Settings",
        markdown([("setting", "metric", "unit", "higher is better", "backbones", "seeds", "rows"),
                  *_settings(rows)]),
        "## Files",
        f"`{SCORES_FILE}` has a row for every metric of every run (schema {SCHEMA}):",
        _columns(SCORES),
    ]  # fmt: skip
    if OUTCOMES_FILE in files:
        parts += [f"`{OUTCOMES_FILE}` has what scores are means of:", _columns(OUTCOMES)]
    parts += [
        "`croissant.json` describes them for programs. `bob import` reads the folder back.",
        "## How it was made",
        _made(rows),
        "## Licences",
        f"These results: {markdown_text(asker.licence) or 'nobody said; ask who gave them to you'}."
        " Weights and data keep the terms of their publishers, which the catalog of the suite "
        "gives as follows.",
        markdown(
            [("backbone", "pretraining", "licence of the weights"),
             *((name, subject.pretraining or UNKNOWN, subject.licence or UNKNOWN)
               for name, subject in sorted(told.subjects.items()))]
        ),
        markdown(
            [("dataset", "licence of the data"),
             *((name, text or UNKNOWN) for name, text in sorted(told.data_licences.items()))]
        ),
        "## Citation",
        "The protocols are those of *Battle of the Backbones* (NeurIPS 2023, arXiv 2310.19909); "
        "these results are not its authors'.",
        f"```bibtex\n{CITATION}\n```",
    ]  # fmt: skip
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _front(title: str, asker: Asker, files: Sequence[str]) -> str:
    tables = [name for name in (SCORES_FILE, OUTCOMES_FILE) if name in files]
    front: dict[str, Any] = {"pretty_name": title, "tags": ["benchmark", "computer-vision"]}
    if asker.licence:
        front["license"] = asker.licence
    front["configs"] = [
        {"config_name": name.removesuffix(".parquet"), "data_files": name} for name in tables
    ]
    return str(yaml.safe_dump(front, sort_keys=False, allow_unicode=True))


def _settings(rows: Sequence[Score]) -> list[tuple[str, ...]]:
    groups: dict[tuple[str, str], list[Score]] = {}
    for row in rows:
        if row.unit:
            groups.setdefault((row.setting, row.metric), []).append(row)
    return [
        (
            setting,
            f"{metric} (score)" if found[0].is_score else metric,
            found[0].unit,
            "yes" if found[0].higher_is_better else "no",
            str(len({row.backbone for row in found})),
            str(len({row.seed for row in found})),
            str(len(found)),
        )
        for (setting, metric), found in sorted(groups.items())
    ]


def _columns(table: str) -> str:
    return markdown([("column", "meaning"), *WORDS[table].items()])


def _made(rows: Sequence[Score]) -> str:
    measured = [row for row in rows if row.role != PUBLISHED]
    times = sorted(row.time for row in measured if row.time)
    facts = (
        ("roles", {row.role for row in rows}),
        ("versions of the suite", {row.version for row in measured}),
        ("sessions", {row.session for row in measured}),
        ("devices", {row.device for row in measured}),
        ("environments", {row.environment for row in measured}),
        ("sources of published scores",
         {row.environment for row in rows if row.role == PUBLISHED}),
        ("from", set(times[:1])),
        ("to", set(times[-1:])),
    )  # fmt: skip
    lines = []
    for name, values in facts:
        known = sorted(values - {""})
        shown = "; ".join(map(markdown_text, known[:_MOST]))
        more = f"; and {len(known) - _MOST} more" if len(known) > _MOST else ""
        if known:
            lines.append(f"- {name}: {shown}{more}")
    return "\n".join(["`bob export` of Battle of the Backbones as a test suite.", "", *lines])


_MOST = 20
