"""Image retrieval with frozen features. Source: hsouri/bob-retrieval and revisitop.

Features are L2-normalised and searched exactly by dot product, without training, whitening or
re-ranking. Nothing depends on the seed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bob.artifacts.lettering import label
from bob.artifacts.panels import PanelRow, retrieval_panel
from bob.backbones import Backbone
from bob.case import Content, Progress
from bob.datasets import RetrievalData
from bob.datasets.base import Setting
from bob.features import FeatureSource
from bob.job import Job, TaskOutput
from bob.protocols.retrieval import RetrievalRecipe
from bob.retrieval.metrics import (
    chance_bound,
    evaluate,
    marks,
    query_outcomes,
    ranked_queries,
    split_relevance,
    summarise,
)
from bob.retrieval.search import search
from bob.tabular import csv_bytes

SHOWN = 10
PANEL_QUERIES = 8
CHANCE_DRAWS = 2000


def run(job: Job[RetrievalRecipe, RetrievalData, Backbone]) -> TaskOutput:
    """Rank the database for every query.

    Returns:
        The metrics of ``bob.retrieval.metrics.evaluate`` in the recipe's setting, and ``map_easy``,
        ``map_medium`` and ``map_hard`` where the dataset grades its positives and some query has
        any; the first ten of every query as a table, and of some as a picture.

    Raises:
        BobError: No query has a positive in the recipe's setting.
    """
    recipe, data = job.recipe, job.data
    source = FeatureSource(job)
    queries = source.on_device(data.queries, "queries")
    database = source.features(data.database, "database")
    job.emit(Progress(phase="evaluate"))
    ranked = ranked_queries(queries, database, data.relevance, recipe.setting)
    own = summarise(ranked, recipe.ks)
    metrics = dict(own)
    if data.graded:
        for setting in _answered(data):
            metrics[f"map_{setting}"] = evaluate(
                queries, database, data.relevance, setting, ks=recipe.ks
            )["map"]
    metrics["chance_bound"] = chance_bound(
        data.relevance, len(database), recipe.setting, draws=CHANCE_DRAWS
    )
    scores, found = search(queries, database, SHOWN, normalise=True)
    return source.output(
        metrics=metrics,
        queries=query_outcomes(ranked),
        files=_files(job, scores, found, own["map"]),
    )


def _answered(data: RetrievalData) -> list[Setting]:
    """Settings in which some query has a positive."""
    settings: tuple[Setting, ...] = ("easy", "medium", "hard")
    return [
        setting
        for setting in settings
        if any(len(split_relevance(relevance, setting)[0]) for relevance in data.relevance)
    ]


def _files(
    job: Job[RetrievalRecipe, RetrievalData, Backbone],
    scores: torch.Tensor,
    found: torch.Tensor,
    score: float,
) -> dict[str, Content]:
    """The first results of every query as a table, and of some as a picture."""
    data, setting = job.data, job.recipe.setting
    words = [
        marks(row, relevance, setting) for row, relevance in zip(found, data.relevance, strict=True)
    ]

    def picture() -> bytes:
        rows = [
            _panel_row(data, query, found[query].tolist(), words[query]) for query in _some(words)
        ]
        return retrieval_panel(job.case, rows, f"{setting} mAP {score:.4f}")

    return {"ranking.csv": lambda: _ranking(scores, found, words), "retrieval.png": picture}


def _ranking(scores: torch.Tensor, found: torch.Tensor, words: Sequence[Sequence[str]]) -> bytes:
    rows = [
        (query, place + 1, position, f"{value:.5f}", word)
        for query, (values, positions, line) in enumerate(
            zip(scores.tolist(), found.tolist(), words, strict=True)
        )
        for place, (value, position, word) in enumerate(zip(values, positions, line, strict=True))
    ]
    return csv_bytes(("query", "rank", "database", "cosine", "result"), rows)


def _some(words: Sequence[Sequence[str]]) -> list[int]:
    """Queries from the worst to the best first results, evenly spaced."""
    order = sorted(range(len(words)), key=lambda query: words[query].count("right"))
    count = min(PANEL_QUERIES, len(order))
    return [order[round(i * (len(order) - 1) / max(1, count - 1))] for i in range(count)]


def _panel_row(
    data: RetrievalData, query: int, positions: Sequence[int], words: Sequence[str]
) -> PanelRow:
    name = data.class_names[int(data.queries.targets[query])]
    right = words.count("right")
    return PanelRow(
        query=data.queries.picture(query),
        label=f"{label(name, 16)}\n{right} of {len(words)}",
        found=[
            (data.database.picture(position), word)
            for position, word in zip(positions, words, strict=True)
        ],
    )
