"""Places, p-values and intervals of drawn outcomes, held to fixed values."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

from bob.catalog import Catalog
from bob.evaluation import Evaluation
from tests.ranking_parts import Play, evaluation_of, ranked


@pytest.fixture
def play(catalog: Catalog) -> Play:
    return partial(evaluation_of, catalog)


def drawn(rng: np.random.Generator, share: float, count: int) -> list[bool]:
    return [bool(value) for value in rng.random(count) < share]


def sessions(play: Play, name: str) -> list[Evaluation]:
    """Sessions of drawn outcomes: few images, many, and all that can be missing or odd."""
    rng = np.random.default_rng(7)
    if name in ("few", "many"):
        count = 40 if name == "few" else 1500
        shares = {"a": 0.7, "b": 0.68, "c": 0.5, "d": 0.45}
        return [
            play(key, task, drawn(rng, share, count))
            for key, share in shares.items()
            for task in ("knn", "linear_probe")
        ]
    nearest = {"a": 0.8, "b": 0.6, "c": 0.5}
    seeds = {"a": 3, "b": 3, "c": 1}
    odd = {"a": 0.61, "b": math.nan, "c": 0.44, "d": 0.4}
    return [
        *(play(key, "knn", drawn(rng, share, 60)) for key, share in nearest.items()),
        *(play(k, "finetune", *(drawn(rng, 0.7, 60) for _ in range(n))) for k, n in seeds.items()),
        *(play(key, "low_shot", [False] * 60, score=score) for key, score in odd.items()),
        play("e", "low_shot", [False] * 60, score=math.inf),
        play("f", "knn"),
    ]


STOOD = {
    "few": [
        ("a", 1, True, 2, 1.2033882645655827, 0.46156951412558556),
        ("b", 1, True, 0, 0.6895174668183256, 0.048185281455516794),
        ("d", 3, True, 0, -0.6292151979027727, 0.3494973778724674),
        ("c", 3, True, 0, -1.2636905334811357, None),
    ],
    "many": [
        ("a", 1, True, 1, 1.0179513485708096, 0.6632477667054303),
        ("b", 1, True, 1, 0.9707033880282245, 1.5251632047539338e-53),
        ("c", 3, False, 0, -0.8618635319153103, 0.01981138194967935),
        ("d", 4, False, 0, -1.1267912046837258, None),
    ],
    "odd": [
        ("a", 1, False, 2, 0.543954982814732, None),
        ("c", 2, False, 1, -0.0855652900553885, None),
        ("b", 3, False, 0, -0.22992702292763056, None),
        ("d", 4, False, 0, -0.9153150324227656, None),
    ],
}
"""Backbone, rank, tied, wins, mean z and p. In the odd session one backbone has one seed, or two
have no setting in common that can be compared: neighbours have no p."""

STOOD_CELLS = {
    "finetune/digits top1": {
        "a": (0.6666666666666666, 0.5339456954806393, 0.7805033213181691, 3, True),
        "b": (0.6888888888888888, 0.5107105933622826, 0.8518578099631553, 3, True),
        "c": (0.7333333333333333, 0.6099128690331636, 0.8286735999671945, 1, True),
    },
    "knn/digits top1": {
        "a": (0.8, 0.6821819419437212, 0.881714946771025, 1, False),
        "b": (0.5833333333333334, 0.4572808102264012, 0.6993572144165838, 1, False),
        "c": (0.45, 0.33093654406755235, 0.5750806411466566, 1, False),
    },
    "low_shot/digits top1": {
        "a": (0.61, 0.4835533302363551, 0.7232088622923851, 1, False),
        "c": (0.44, 0.32179332251751225, 0.5654272997395384, 1, False),
        "d": (0.4, 0.2856949053488255, 0.5263394650795924, 1, False),
    },
}
"""Score, its interval, seeds and whether they matter, of the odd session."""


@pytest.mark.parametrize("name", STOOD)
def test_places_and_p_values_of_a_session_stand(play: Play, name: str) -> None:
    found = ranked(sessions(play, name))
    assert found is not None
    assert found.unranked == (("e", "f") if name == "odd" else ())
    for standing, stood in zip(found.standings, STOOD[name], strict=True):
        assert (standing.backbone, standing.rank, standing.tied, standing.wins) == stood[:4]
        assert standing.mean_z == pytest.approx(stood[4], rel=1e-12)
        chance = stood[5]
        assert standing.p_next == (chance and pytest.approx(chance, rel=1e-6))


def test_scores_and_intervals_of_a_session_stand(play: Play) -> None:
    found = ranked(sessions(play, "odd"))
    assert found is not None
    assert list(found.cells) == list(STOOD_CELLS)
    for setting, row in STOOD_CELLS.items():
        assert found.cells[setting].keys() == row.keys()
        for key, stood in row.items():
            entry = found.cells[setting][key]
            assert (entry.value, entry.low, entry.high) == pytest.approx(stood[:3], rel=1e-12)
            assert (entry.seeds, entry.seeded) == stood[3:]
