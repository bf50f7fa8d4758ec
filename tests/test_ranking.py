"""Which backbone is best, and how sure that is."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest

from bob.case import Case, Failure, Outcomes, Result, Status, Verdict
from bob.catalog import BackboneEntry, Catalog
from bob.evaluation import Evaluation
from bob.intervals import wilson
from bob.ledger import Ledger, best_scores, outcomes_of
from bob.plan import Plan, Selection
from bob.report.cells import Cell
from bob.report.ranking import Ranking, rank, rank_cells
from bob.report.ranking_text import files, lines, notes
from bob.report.significance import sign_flip
from bob.report.sources import (
    newest,
    recorded_of_session,
    scores_of_ledger,
    scores_of_session,
)
from bob.tracking import resolve_store
from bob.tracking.read import scores_of_store
from bob.tracking.writer import Writer

ROOT = Path(__file__).resolve().parents[1]

Play = Callable[..., Evaluation]


@pytest.fixture
def play(catalog: Catalog) -> Play:
    """An evaluation of a backbone from which test images it got right, one list a seed."""

    def make(backbone: str, task: str, *seeds: Sequence[bool], score: float | None = None):  # type: ignore[no-untyped-def]
        case = next(
            case
            for case in Plan(catalog, Selection(backbones=("vit_micro_random",))).all_cases()
            if case.task == task
        )
        entry = BackboneEntry(key=backbone, family="none", source="timm:none")
        case = Case(**{**vars(case), "backbone": entry})
        results = tuple(result(case.with_seed(n), right, score) for n, right in enumerate(seeds))
        return Evaluation(
            case=case, results=results, verdict=Verdict(status=Status.NO_REFERENCE, reason="")
        )

    def result(case: Case, right: Sequence[bool], score: float | None) -> Result:
        targets = np.arange(len(right)) % 3
        predictions = np.where(right, targets, (targets + 1) % 3)
        outcomes = Outcomes(
            targets=targets,
            target_log_probabilities=np.where(right, 0, -np.inf).astype(np.float32),
            top_classes=predictions[:, None].astype(np.int32),
            top_probabilities=np.ones((len(right), 1), np.float32),
            square_sums=np.ones(len(right), np.float32),
            class_names=("a", "b", "c"),
        )
        value = float(np.mean(right)) if score is None else score
        return Result(
            case=case,
            run_key=case.id,
            metrics={"top1": value},
            outcomes=outcomes if score is None else None,
            test_size=len(right),
        )

    return make


def ranked(evaluations: Sequence[Evaluation]) -> Ranking | None:
    """The ranking at the end of a session."""
    return rank(
        newest(best_scores(scores_of_session(evaluations))),
        outcomes=outcomes_of(recorded_of_session(evaluations)),
        backbones=[evaluation.case.backbone.key for evaluation in evaluations],
    )


def shares(*right: int, of: int = 100) -> list[list[bool]]:
    """Nested outcomes: whoever gets fewer right gets a subset right."""
    return [[row < count for row in range(of)] for count in right]


def test_wilson_is_the_textbook_s() -> None:
    for right, count in ((0, 5), (3, 7), (597, 597), (81, 263)):
        expected = binomtest(right, count).proportion_ci(method="wilson")
        assert wilson(right / count, count) == pytest.approx((expected.low, expected.high))


def test_order_z_scores_and_wins(play: Play) -> None:
    good, fair, poor = shares(90, 60, 30)
    found = ranked(
        [
            play("b_fair", "knn", fair), play("a_poor", "knn", poor), play("c_good", "knn", good),
            play("b_fair", "linear_probe", fair), play("a_poor", "linear_probe", poor),
            play("c_good", "linear_probe", good),
        ]
    )  # fmt: skip
    assert found is not None
    assert [standing.backbone for standing in found.standings] == ["c_good", "b_fair", "a_poor"]
    assert [standing.rank for standing in found.standings] == [1, 2, 3]
    assert [standing.wins for standing in found.standings] == [2, 0, 0]
    assert not any(standing.tied for standing in found.standings)
    assert [standing.mean_z for standing in found.standings] == pytest.approx(
        [(v - 0.6) / math.sqrt(0.06) for v in (0.9, 0.6, 0.3)]
    )
    assert all(
        standing.p_next is not None and standing.p_next < 1e-3 for standing in found.standings[:2]
    )
    assert found.standings[2].p_next is None


def test_one_setting_is_mcnemar_s_exact_test(play: Play) -> None:
    """Discordant pairs 7 and 1 of 40 images."""
    first = [True] * 7 + [False] + [True] * 20 + [False] * 12
    second = [False] * 7 + [True] + [True] * 20 + [False] * 12
    found = ranked([play("first", "knn", first), play("second", "knn", second)])
    assert found is not None
    assert found.standings[0].p_next == pytest.approx(binomtest(1, 8).pvalue)
    assert [(standing.rank, standing.tied) for standing in found.standings] == [
        (1, True),
        (1, True),
    ]


@pytest.mark.parametrize(("plus", "minus"), [(3, 1), (12, 2), (60, 31), (900, 700)])
def test_signs_are_counted_where_few_and_drawn_where_many(plus: int, minus: int) -> None:
    differences = np.array([0.01] * plus + [-0.01] * minus)
    exact = binomtest(minus, plus + minus).pvalue
    assert sign_flip(differences) == pytest.approx(exact, abs=0.01, rel=0.15)


def test_sign_flips_keep_their_level() -> None:
    """Of equal backbones about one in twenty pairs is told apart, not more."""
    rng = np.random.default_rng(0)
    found = [
        sign_flip(step[step != 0])
        for step in (rng.integers(-1, 2, 30).astype(float) for _ in range(200))
    ]
    assert np.mean(np.array(found) < 0.05) <= 0.08


def test_tasks_on_the_same_images_are_not_more_images(play: Play) -> None:
    """The same outcomes read by four tasks say no more than once."""
    first = [True] * 5 + [False] * 25
    second = [False] * 30
    once = ranked([play("a", "knn", first), play("b", "knn", second)])
    tasks = ("knn", "linear_probe", "linear_probe_paper", "finetune")
    often = ranked([play(key, task, right) for task in tasks
                  for key, right in (("a", first), ("b", second))])  # fmt: skip
    assert once is not None
    assert often is not None
    assert once.standings[0].p_next == pytest.approx(2 / 2**5)
    assert often.standings[0].p_next == pytest.approx(2 / 2**5)


def test_ties_share_the_better_rank(play: Play) -> None:
    rights = dict(zip("abcd", shares(91, 90, 40, 39), strict=True))
    found = ranked([play(key, "knn", right) for key, right in rights.items()])
    assert found is not None
    assert [(standing.rank, standing.tied) for standing in found.standings] == [
        (1, True), (1, True), (3, True), (3, True),
    ]  # fmt: skip
    table = "\n".join(lines(found))
    assert "=1    a" in table
    assert "=3    d" in table
    assert "within noise" in table


def test_equal_scores_are_a_tie_with_no_winner_less(play: Play) -> None:
    same = shares(50)[0]
    found = ranked([play("a", "knn", same), play("b", "knn", same)])
    assert found is not None
    for standing in found.standings:
        assert (standing.rank, standing.tied, standing.mean_z, standing.wins) == (1, True, 0.0, 1)


def test_who_lacks_a_score_is_ranked_on_the_rest_and_marked(play: Play, catalog: Catalog) -> None:
    good, fair, poor = shares(90, 60, 30)
    lost = play("b", "linear_probe")
    failed = Evaluation(
        case=lost.case,
        results=(Result(case=lost.case, failure=Failure("error", "no such depth")),),
        verdict=Verdict(status=Status.FAIL, reason="no such depth"),
        failure=Failure("error", "no such depth"),
    )
    found = ranked(
        [
            play("a", "knn", poor), play("b", "knn", good), play("c", "knn", fair),
            play("a", "linear_probe", good), failed, play("c", "linear_probe", poor),
            play("a", "low_shot", good, score=0.5), play("never", "knn"),
        ]
    )  # fmt: skip
    assert found is not None
    assert found.standings[0].backbone == "b"
    assert list(found.standings[0].z) == ["knn/digits top1"]
    assert found.unranked == ("never",)
    text = "\n".join(lines(found))
    assert "1 of 2*" in text
    assert "*: ranked on the settings it has a score in" in text
    assert "Not ranked, without a score to compare: never." in text


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
        ("a", 1, True, 2, 1.2033882645655827, 0.4514),
        ("b", 1, True, 0, 0.6895174668183256, 0.051),
        ("d", 1, True, 0, -0.6292151979027727, 0.3462),
        ("c", 1, True, 0, -1.2636905334811357, None),
    ],
    "many": [
        ("a", 1, True, 1, 1.0179513485708096, 0.6632477667054303),
        ("b", 1, True, 1, 0.9707033880282245, 1.5251632047539338e-53),
        ("c", 3, False, 0, -0.8618635319153103, 0.01981138194967935),
        ("d", 4, False, 0, -1.1267912046837258, None),
    ],
    "odd": [
        ("a", 1, True, 2, 0.543954982814732, 0.5812931156846357),
        ("c", 1, True, 1, -0.0855652900553885, 0.7808),
        ("b", 1, True, 0, -0.22992702292763056, None),
        ("d", 4, False, 0, -0.9153150324227656, None),
    ],
}
"""Backbone, rank, tied, wins, mean z and p, as they were before rankings stood on Score rows."""

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
        assert standing.p_next == (chance and pytest.approx(chance, rel=1e-9))


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


def test_nothing_to_rank(play: Play) -> None:
    good = shares(90)[0]
    assert ranked([]) is None
    assert ranked([play("a", "knn", good)]) is None
    assert ranked([play("a", "knn", good), play("b", "linear_probe", good)]) is None


def test_where_lower_is_better_the_sign_turns() -> None:
    cells = {
        "task/data loss": {"high": Cell(value=2.0, better=-1), "low": Cell(value=1.0, better=-1)}
    }
    found = rank_cells(cells, ["high", "low"])
    assert found is not None
    assert [standing.backbone for standing in found.standings] == ["low", "high"]
    assert [standing.wins for standing in found.standings] == [1, 0]
    assert found.standings[0].p_next is None
    assert not found.standings[0].tied
    assert any("no error per image" in text for text in notes(found))


def test_scores_without_outcomes_are_compared_by_their_intervals(play: Play) -> None:
    rows = [False] * 100
    near = ranked([play("a", "low_shot", rows, score=0.61), play("b", "low_shot", rows, score=0.6)])
    far = ranked([play("a", "low_shot", rows, score=0.9), play("b", "low_shot", rows, score=0.3)])
    assert near is not None
    assert far is not None
    assert near.standings[0].tied
    assert not far.standings[0].tied


def test_seeds_widen_the_interval(play: Play) -> None:
    steady = ranked(
        [play("a", "finetune", *shares(60, 60, 60)), play("b", "finetune", *shares(50))]
    )
    restless = ranked(
        [play("a", "finetune", *shares(40, 60, 80)), play("b", "finetune", *shares(50))]
    )
    assert steady is not None
    assert restless is not None
    narrow, wide = (found.cells["finetune/digits top1"]["a"] for found in (steady, restless))
    assert narrow.value == wide.value == pytest.approx(0.6)
    assert (narrow.low, narrow.high) == pytest.approx(wilson(0.6, 100))
    assert (wide.high or 0) - (wide.low or 0) > 2 * ((narrow.high or 0) - (narrow.low or 0))
    assert any("trained on one seed" in text for text in notes(steady))


def test_files_hold_every_score(play: Play) -> None:
    good, fair = shares(90, 60)
    found = ranked([play("a", "knn", good), play("b", "knn", fair)])
    assert found is not None
    written = files(found)
    (first, second) = csv.DictReader(io.StringIO(written["ranking.csv"].decode()))
    assert (first["rank"], first["backbone"], first["score"]) == ("1", "a", "0.9")
    assert float(first["low"]) == pytest.approx(wilson(0.9, 100)[0], abs=1e-6)
    assert (second["z"], second["p_next"]) == ("-1", "")
    assert "| 1 | a | +1.00 | 1 | 1 of 1 |" in written["ranking.md"].decode()


# ----- a real session -----


def write_shapes(root: Path) -> None:
    """Filled and hollow squares of random grey in noise."""
    rng = np.random.default_rng(3)
    for name in ("filled", "hollow"):
        (root / name).mkdir(parents=True)
        for number in range(40):
            pixels = rng.integers(0, 200, (48, 48, 3)).astype(np.uint8)
            top, left = rng.integers(4, 14, 2)
            pixels[top : top + 28, left : left + 28] = rng.integers(140, 250)
            if name == "hollow":
                pixels[top + 5 : top + 23, left + 5 : left + 23] = rng.integers(0, 60)
            Image.fromarray(pixels).save(root / name / f"{number}.png")


SUITE = """
import pytest

@pytest.mark.knn
def test_knn(case, battle):
    battle(case)

@pytest.mark.linear_probe
def test_linear_probe(case, battle):
    battle(case)
"""


@pytest.mark.slow
def test_a_session_on_own_photographs_ends_with_a_ranking(
    pytester: pytest.Pytester, shared_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    write_shapes(pytester.path / "my shapes")
    pytester.makeini(f"[pytest]\nbob_tracking_uri = {shared_store}\n")
    pytester.makepyfile(test_suite=SUITE)
    keys = ("swin_micro_glyphs", "resnet_micro_glyphs", "vit_micro_random")
    chosen = [word for key in keys for word in ("--backbone", key)]
    result = pytester.runpytest("--dataset", "folder:my shapes,test=0.3", *chosen, "--workers", "0")
    assert result.ret in (0, 1)
    outcome = result.parseoutcomes()
    assert outcome.get("passed", 0) + outcome.get("failed", 0) == 6
    text = result.stdout.str()
    assert "= ranking =" in text
    ranking = text.split("= ranking =", 1)[1]
    for key in keys:
        assert key in ranking
    result.stdout.fnmatch_lines(
        ["rank  backbone *mean z  wins  settings  p to next", "*1 * 2 of 2 *", "",
         "backbone *knn/folder:my shapes top1 *linear_probe/folder:my shapes top1",
         "*_micro_* 0.* [[]0.*, *[]]*"]
    )  # fmt: skip
    session = text.split("MLflow: session ", 1)[1].split()[0]
    client = MlflowClient(shared_store)
    experiment = client.get_experiment_by_name("bob/smoke/sessions")
    assert experiment is not None
    (run,) = client.search_runs(
        [experiment.experiment_id], filter_string=f"tags.`bob.session` = '{session}'"
    )
    path = Path(client.download_artifacts(run.info.run_id, "ranking.csv"))
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    assert {row["backbone"] for row in rows} == set(keys)
    assert len(rows) == 6
    assert "| rank | backbone |" in Path(
        client.download_artifacts(run.info.run_id, "ranking.md")
    ).read_text(encoding="utf-8")


def test_sessions_without_a_choice_have_no_ranking(project: pytest.Pytester) -> None:
    result = project.runpytest()
    result.stdout.no_fnmatch_line("*= ranking =*")
    assert "pixels_fine" in result.stdout.str()


BROKEN = """
from bob.catalog import BackboneEntry

def pytest_bob_backbones(config):
    return [BackboneEntry(key="broken", family="pixels", scales=("tiny",),
                          source="bob.backbones.micro:no_such_function")]
"""


@pytest.mark.slow
def test_the_ledger_s_rows_rank_as_the_session_s(
    project: pytest.Pytester, empty_store: Callable[[Path], str]
) -> None:
    """Of references, of checks that failed and were measured anew, and of a case without score."""
    project.makeconftest(BROKEN)
    keys = ("pixels_coarse", "pixels_fine", "broken")
    chosen = [word for key in keys for word in ("--backbone", key)]
    uri = empty_store(project.path / "own.db")
    ledger = Ledger(project.path / "mlruns" / "ledger")
    # a check that fails runs two seeds more, then those of its reference
    for bands, runs in (("all", 4), ("failed", 4 + 2 + 2)):
        done = project.runpytest(*chosen, "--seeds", "2", "--bands", bands, "--tracking-uri", uri)
        name = ledger.sessions()[-1]
        summary = ledger.summary(name)
        assert summary is not None
        rows = newest(best_scores(scores_of_ledger(ledger, session=name)))
        assert len(rows) == runs
        outcomes = outcomes_of(ledger.entries(name))
        assert outcomes.keys() == {row.run for row in rows}
        found = rank(rows, outcomes=outcomes, backbones=keys)
        assert found is not None
        assert found.unranked == ("broken",)
        written = {file: content.decode() for file, content in files(found).items()}
        assert written == summary["further"]
        for line in lines(found):
            assert line in done.outlines

        stored = list(scores_of_store(Writer(resolve_store(project.path, uri)), session=name))
        unpaired = rank(newest(best_scores(stored)))
        assert unpaired is not None
        assert unpaired == rank(rows)
        assert unpaired.standings[0].p_next != found.standings[0].p_next

        reference = project.path / "references" / "tiny" / "pixels_coarse.json"
        record = json.loads(reference.read_text())
        for values in record["settings"]["finetune/digits"]["values"].values():
            values["top1"] += 0.2
        reference.write_text(json.dumps(record))
