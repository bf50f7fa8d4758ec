"""Folders and files whose names mean something in an address, a shell or a formula."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bob.cli import main
from bob.errors import BobError
from bob.tracking.destination import resolve_store, sqlite_uri
from bob.tracking.moved import settle
from tests.conftest import suite_of

CATALOG = """
scales:
  odd:
    description: one case that reads features
    tasks:
      knn:
        {datasets: [digits], margin: 0.01, reference_seeds: 4, recipe: {image_size: 32}}
backbones:
  pixels_coarse:
    {family: pixels, source: "bob.backbones.micro:pooled_pixels", arguments: {grid: 4},
     pretraining: none, scales: [odd]}
"""

NAMES = (
    "a#b",
    "a?b",
    "a%20b",
    "100% a b;c",
    "ünï日本",
    "user@host:c",
    'it\'s "quoted"',
    "a\\b$HOME{x}&y=1?z=~",
    "tab\tline\nend",
)

Odd = Callable[..., Path]


@pytest.fixture
def odd(empty_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Odd:
    """Makes a project folder of a name, with a store of no runs, and goes there."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def make(name: str, *, store: str = "mlruns") -> Path:
        folder = tmp_path / "above" / name
        (folder / store).mkdir(parents=True)
        empty_store(folder / store / "mlflow.db")
        (folder / "catalogs").mkdir()
        (folder / "catalogs" / "odd?#%20.yaml").write_text(CATALOG)
        (folder / "pytest.ini").write_text(
            "[pytest]\nbob_scale = odd\nbob_catalog = catalogs/odd?#%20.yaml\n"
            "bob_references = own references\nbob_features = own features\n",
        )
        (folder / "test_suite.py").write_text(suite_of("knn"))
        monkeypatch.chdir(folder)
        return folder

    return make


def runs_in(database: Path) -> list[tuple[str, str, str]]:
    """Status, artifact address and level of every run in a file."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(
            "SELECT status, artifact_uri, value FROM runs JOIN tags USING (run_uuid) "
            "WHERE key = 'bob.level'"
        ).fetchall()


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_project_folder_of_any_name(
    name: str,
    odd: Odd,
    shared_store: str,
    pytester: pytest.Pytester,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = odd(name)
    result = pytester.runpytest_inprocess("--bands", "all")
    result.assert_outcomes(passed=1)
    monkeypatch.chdir(folder)

    assert {status for status, _, _ in runs_in(folder / "mlruns" / "mlflow.db")} == {"FINISHED"}
    artifacts = folder / "mlruns" / "artifacts"
    assert {"confusion_matrix.png", "summary.md"} <= files_of(artifacts)
    assert "session.json" in files_of(folder / "mlruns" / "ledger")
    assert list((folder / "own references").rglob("pixels_coarse.json"))
    assert list((folder / "own features").rglob("manifest.json"))
    assert [path.name for path in folder.parent.iterdir()] == [name], "nothing beside the project"

    capsys.readouterr()
    arguments = ["--catalog", "catalogs/odd?#%20.yaml", "--scale", "odd"]
    for source in ("mlflow", "ledger", "references"):
        words = ["--from", source, "--references", "own references"]
        assert main(["profile", *arguments, *words]) == 0
        assert "knn/digits" in capsys.readouterr().out
    assert main(["sync"]) == 0
    assert "; 4 were there already." in capsys.readouterr().out
    assert main(["doctor", "--catalog", "catalogs/odd?#%20.yaml"]) in (0, 1)
    assert "ok    MLflow store" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a?b", "a%20b#c"])
def test_a_named_store_of_any_name(
    name: str, odd: Odd, shared_store: str, pytester: pytest.Pytester
) -> None:
    folder = odd(name, store="store")
    database = folder / "store" / "mlflow.db"
    uri = f"sqlite:///{database}"
    pytester.runpytest_inprocess("--tracking-uri", uri).assert_outcomes(passed=1)
    assert {status for status, _, _ in runs_in(database)} == {"FINISHED"}
    assert "confusion_matrix.png" in files_of(folder / "store" / "artifacts")
    assert [path.name for path in folder.parent.iterdir()] == [name]
    again = resolve_store(folder, resolve_store(folder, uri).uri)
    assert again.database == database, "an address that was printed names the same file"


def test_options_in_an_address_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BobError, match="options behind `\\?` are not taken"):
        resolve_store(tmp_path, f"sqlite:///{tmp_path}/mlflow.db?timeout=5")
    with pytest.raises(BobError, match="names no file"):
        resolve_store(tmp_path, "sqlite:///")
    with pytest.raises(BobError, match="a folder whose name holds"):
        resolve_store(tmp_path, f"sqlite:///{tmp_path}/nowhere?/mlflow.db")


def test_a_path_that_is_not_text_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(BobError, match="not text in UTF-8"):
        sqlite_uri(tmp_path / "caf\udce9" / "mlflow.db")


def test_ordinary_paths_stay_as_they_are(tmp_path: Path) -> None:
    store = resolve_store(tmp_path, "")
    assert store.uri == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    assert store.own
    assert store.database == tmp_path / "mlruns" / "mlflow.db"


@pytest.mark.slow
def test_scenes_in_a_folder_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bob.catalog import load_catalog
    from bob.datasets import load_dataset, scenes

    folder = tmp_path / "a?b#c%20 [d]*;é"
    monkeypatch.setenv("BOB_SCENES", str(folder))
    scenes.load.cache_clear()  # another test may have loaded them from elsewhere
    data = load_dataset(load_catalog().datasets["digit_scenes"])
    scenes.load.cache_clear()
    assert data.test_size
    assert list(folder.rglob("*.json"))
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


@pytest.mark.slow
@pytest.mark.parametrize("move", [shutil.copytree, shutil.move], ids=["copied", "moved"])
def test_a_project_that_was_moved_keeps_its_record_together(
    move: Callable[[Path, Path], object],
    odd: Odd,
    shared_store: str,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mlflow import MlflowClient

    folder = odd("before")
    pytester.runpytest_inprocess().assert_outcomes(passed=1)
    first = files_of(folder / "mlruns" / "artifacts")
    new = folder.with_name("after #2")
    monkeypatch.chdir(folder.parent)
    move(folder, new)
    kept = sorted(folder.rglob("*")) if folder.exists() else None
    monkeypatch.chdir(new)

    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*remarks on the record*", "*This store was moved*"])
    monkeypatch.chdir(new)
    after = sorted(folder.rglob("*")) if folder.exists() else None
    assert after == kept, "nothing is written to where the project was"
    client = MlflowClient(tracking_uri=resolve_store(new, "").uri)
    for experiment in client.search_experiments(filter_string="name LIKE 'bob/%'"):
        runs = client.search_runs([experiment.experiment_id])
        assert len(runs) == 2
        for run in runs:
            names = [file.path for file in client.list_artifacts(run.info.run_id)]
            assert names, "artifacts of the runs that came along open too"
    assert first <= files_of(new / "mlruns" / "artifacts")
    assert main(["sync"]) == 0


def test_artifacts_kept_outside_of_the_project_are_refused(
    odd: Odd, shared_store: str, pytester: pytest.Pytester, tmp_path: Path
) -> None:
    folder = odd("project")
    outside = tmp_path / "disk" / "7"
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as database, database:
        database.execute(
            "INSERT INTO experiments (name, artifact_location, lifecycle_stage, workspace) "
            "VALUES ('bob/odd/knn', ?, 'active', 'default')",
            (outside.as_uri(),),
        )
    result = pytester.runpytest_inprocess()
    result.stderr.fnmatch_lines(["*Artifacts of experiment 'bob/odd/knn'*outside of this project*"])
    assert not outside.exists()


def settled(folder: Path, rows: list[tuple[str, str]], *, own: bool = True) -> list[str]:
    """Locations of the experiments of a store after it was settled where it is."""
    store = resolve_store(folder, "" if own else f"sqlite:///{folder}/mlflow.db")
    assert store.database is not None
    with closing(sqlite3.connect(store.database)) as database, database:
        database.executemany(
            "INSERT INTO experiments (name, artifact_location, lifecycle_stage, workspace) "
            "VALUES (?, ?, 'active', 'default')",
            rows,
        )
    settle(store)
    with closing(sqlite3.connect(store.database)) as database:
        found = database.execute("SELECT artifact_location FROM experiments ORDER BY 1").fetchall()
    return [location for (location,) in found if "default" not in location][-len(rows) :]


def test_a_store_reached_through_a_link_stays_as_it_is(
    empty_store: Callable[[Path], str], tmp_path: Path
) -> None:
    (tmp_path / "real" / "mlruns").mkdir(parents=True)
    empty_store(tmp_path / "real" / "mlruns" / "mlflow.db")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    location = (tmp_path / "real" / "mlruns" / "artifacts" / "bob-odd-knn").as_uri()
    assert settled(tmp_path / "link", [("bob/odd/knn", location)]) == [location]


def test_a_store_that_is_kept_elsewhere_on_purpose_stays_as_it_is(
    empty_store: Callable[[Path], str], tmp_path: Path
) -> None:
    empty_store(tmp_path / "mlflow.db")
    rows = [
        ("bob/odd/knn", "file:///big/disk/7"),
        ("bob/odd/ood", "s3://bucket/artifacts/bob-odd-ood"),
        ("mine", "file:///old/artifacts/mine"),
    ]
    assert settled(tmp_path, rows, own=False) == sorted(location for _, location in rows)


def test_a_moved_database_of_a_name_follows_too(
    empty_store: Callable[[Path], str], tmp_path: Path
) -> None:
    folder = tmp_path / "a#b"
    folder.mkdir()
    empty_store(folder / "mlflow.db")
    old = [("bob/odd/knn", "file:///old%20place/artifacts/bob-odd-knn")]
    assert settled(folder, old, own=False) == [(folder / "artifacts" / "bob-odd-knn").as_uri()]
