"""Stores that are only read: none is made by that, and one of somebody else is read as a copy."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from bob.cli import main
from bob.errors import BobError
from bob.tracking import resolve_store
from bob.tracking.readable import readable
from tests.store_parts import EmptyStore
from tests.test_imports import ROOT
from tests.two_users import SECOND, needs_second_user, public, second_user

__all__ = ["public"]

needs_powerless_root = pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0 or not shutil.which("setpriv"),
    reason="needs root, and setpriv to take its powers away",
)


def without_powers(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """``bob`` where files of others are others': MLflow's own may be readable to root alone."""
    powers = "--bounding-set=-dac_override,-dac_read_search"
    return subprocess.run(
        ["setpriv", powers, sys.executable, "-m", "bob.cli", *words],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def give_away(folder: Path) -> None:
    """The folder and what is in it is another user's."""
    for path in (folder, *folder.iterdir()):
        os.chown(path, SECOND, -1)


@pytest.fixture
def recorded(
    project: pytest.Pytester,
    empty_store: EmptyStore,
    public: Path,
    tiny_catalog_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> list[str]:
    """A store of two results in the public folder, and the words that show them."""
    uri = empty_store(project.path / "session.db")
    project.runpytest("--tracking-uri", uri).assert_outcomes(passed=2, warnings=2)
    shutil.copy(project.path / "session.db", public / "lab.db")
    shutil.copy(tiny_catalog_file, public / "catalog.yaml")
    for path in public.iterdir():
        path.chmod(0o644)
    monkeypatch.chdir(public)
    shared = ["profile", "--scale", "tiny", "--catalog", "catalog.yaml"]
    return [*shared, "--from", f"sqlite:///{public}/lab.db"]


@needs_powerless_root
def test_a_store_of_another_user_is_read(
    recorded: list[str], public: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(recorded) == 0
    table = capsys.readouterr().out
    assert "finetune/digits" in table
    give_away(public)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in public.iterdir())
    assert without_powers(public, *recorded).stdout == table
    assert sorted((path.name, path.stat().st_mtime_ns) for path in public.iterdir()) == before
    (public / "lab.db").chmod(0o600)
    refused = without_powers(public, *recorded)
    assert refused.returncode == 2
    assert f"Cannot read the MLflow store {public}/lab.db" in refused.stderr
    assert "Ask its owner" in refused.stderr


@pytest.mark.parametrize("name", ["lob.db", "folder/lab.db"])
def test_reading_makes_no_store(
    name: str,
    public: Path,
    empty_store: EmptyStore,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(public)
    empty_store(public / "lab.db")
    for command in (["report"], ["export", "-o", "out"], ["compare", "a", "b"], ["profile"]):
        assert main([*command, "--from", f"sqlite:///{public}/{name}"]) == 2
        said = capsys.readouterr().err
        assert f"There is no MLflow store at {public}/{name}; nothing was made there" in said
        assert ("Did you mean 'lab.db'?" in said) == (name == "lob.db")
    assert main(["check", "-k", "knn", "--tracking-uri", f"sqlite:///{public}/{name}"]) == 1
    said = capsys.readouterr().err
    assert "not asked" not in said
    assert f"there is no store at {public}/{name} yet" in said
    for command in ("report", "profile"):
        assert main([command, "--from", "mlflow"]) == 2
        assert f"There is no MLflow store at {public}/mlruns/mlflow.db" in capsys.readouterr().err
    assert [path.name for path in public.iterdir()] == ["lab.db"]


def test_what_is_no_database_is_named(public: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (public / "lab.db").write_text("no database" * 200)
    words = ["report", "--from", f"sqlite:///{public}/lab.db"]
    assert main(words) == 2
    assert "is no whole database" in capsys.readouterr().err.lower()
    if os.name != "posix" or os.geteuid() != 0:
        return
    with second_user():
        assert main(words) == 2
    assert "(file is not a database). It is no whole database" in capsys.readouterr().err


@needs_powerless_root
def test_a_store_of_nobody_knows_what(public: Path) -> None:
    """Another version of MLflow's, say: the copy is not what is to be mended."""
    with closing(sqlite3.connect(public / "lab.db")) as store:
        store.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        store.execute("INSERT INTO alembic_version VALUES ('ffffffffffff')")
        store.commit()
    give_away(public)
    done = without_powers(public, "report", "--from", f"sqlite:///{public}/lab.db")
    assert done.returncode == 2
    assert f"The MLflow store {public}/lab.db cannot be used" in done.stderr
    assert "ask its owner" in done.stderr
    assert "bob-store-" not in done.stderr


@needs_second_user
def test_a_folder_that_cannot_be_looked_into(
    public: Path, empty_store: EmptyStore, capsys: pytest.CaptureFixture[str]
) -> None:
    empty_store(public / "lab.db")
    public.chmod(0o700)
    with second_user():
        assert main(["report", "--from", f"sqlite:///{public}/lab.db"]) == 2
    assert "Cannot look for the MLflow store" in capsys.readouterr().err


@needs_powerless_root
def test_who_reads_needs_no_turn(public: Path, empty_store: EmptyStore) -> None:
    """The lock of those who send is another user's, as an older version left it."""
    empty_store(public / "lab.db")
    public.chmod(0o777)
    (public / "lab.db").chmod(0o666)
    (public / "lab.db.turn").touch(0o644)
    give_away(public)
    done = without_powers(public, "report", "--from", f"sqlite:///{public}/lab.db")
    assert done.returncode == 2
    assert "There is no score" in done.stderr


@needs_second_user
def test_a_writer_is_waited_for(
    public: Path, empty_store: EmptyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy is of one moment, and nobody waits without end."""
    monkeypatch.setattr("bob.tracking.readable._WAIT_SECONDS", 0.2)
    store = resolve_store(public, empty_store(public / "lab.db"))
    (public / "lab.db").chmod(0o644)
    writer = sqlite3.connect(public / "lab.db", isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    with closing(writer), second_user():
        with pytest.raises(BobError, match="locked"), readable(store):
            pass
        writer.execute("ROLLBACK")
        with readable(store) as copy:
            assert copy.database != store.database
