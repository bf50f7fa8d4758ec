"""Image retrieval with frozen features. Source: hsouri/bob-retrieval and revisitop.

Features are L2-normalised and searched exactly by dot product, without training, whitening or
re-ranking. Nothing depends on the seed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from lightning_fabric import Fabric

from bob.artifacts.panels import PanelRow, retrieval_panel
from bob.backbones import Backbone
from bob.case import Case, Context, Emit, Progress
from bob.datasets import RetrievalData
from bob.datasets.base import Setting
from bob.features import FeatureSource
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
from bob.tasks.from_features import features_output
from bob.tasks.output import TaskOutput

SHOWN = 10
PANEL_QUERIES = 8
CHANCE_DRAWS = 2000


def run(
    case: Case,
    backbone: Backbone,
    data: RetrievalData,
    *,
    fabric: Fabric,
    context: Context,
    emit: Emit,
) -> TaskOutput:
    """Rank the database for every query.

    Returns:
        The metrics of ``bob.retrieval.metrics.evaluate`` in the recipe's setting, and ``map_easy``,
        ``map_medium`` and ``map_hard`` where the dataset grades its positives and some query has
        any; the first ten of every query as a table, and of some as a picture.

    Raises:
        BobError: No query has a positive in the recipe's setting.
    """
    recipe = case.recipe
    assert isinstance(recipe, RetrievalRecipe)
    started = time.perf_counter()
    source = FeatureSource(case, backbone, fabric, context, emit)
    queries = source.features(data.queries, "queries").tensor().to(fabric.device)
    database = source.features(data.database, "database")
    emit(Progress(phase="evaluate"))
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
    return features_output(
        source,
        started,
        metrics=metrics,
        queries=query_outcomes(ranked),
        files=_files(case, data, scores, found, own["map"]),
    )


def _answered(data: RetrievalData) -> list[Setting]:
    """Settings in which some query has a positive."""
    settings: tuple[Setting, ...] = ("easy", "medium", "hard")
    return [
        setting
        for setting in settings
        if any(len(split_relevance(each, setting)[0]) for each in data.relevance)
    ]


def _files(
    case: Case, data: RetrievalData, scores: torch.Tensor, found: torch.Tensor, score: float
) -> dict[str, bytes]:
    """The first results of every query as a table, and of some as a picture."""
    recipe = case.recipe
    assert isinstance(recipe, RetrievalRecipe)
    words = [
        marks(row, relevance, recipe.setting)
        for row, relevance in zip(found, data.relevance, strict=True)
    ]
    rows = [
        (query, place + 1, position, f"{value:.5f}", word)
        for query, (values, positions, line) in enumerate(
            zip(scores.tolist(), found.tolist(), words, strict=True)
        )
        for place, (value, position, word) in enumerate(zip(values, positions, line, strict=True))
    ]
    panel = [_panel_row(data, query, found[query].tolist(), words[query]) for query in _some(words)]
    return {
        "ranking.csv": csv_bytes(("query", "rank", "database", "cosine", "result"), rows),
        "retrieval.png": retrieval_panel(case, panel, f"{recipe.setting} mAP {score:.4f}"),
    }


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
        label=f"{name[:14]}  {right} of {len(words)}",
        found=[
            (data.database.picture(position), word)
            for position, word in zip(positions, words, strict=True)
        ],
    )
