"""Stores that are only read: none is made by that, and one of somebody else is read as a copy."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bob.cli import main
from bob.errors import BobError
from bob.tracking import resolve_store
from bob.tracking.readable import readable
from tests.store_parts import EmptyStore


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that everybody may read."""
    folder = Path(tempfile.mkdtemp(prefix="bob-two-users-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


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


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs a second user")
def test_a_store_of_another_user_is_read(
    recorded: list[str], public: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(recorded) == 0
    table = capsys.readouterr().out
    assert "finetune/digits" in table
    before = sorted((path.name, path.stat().st_mtime_ns) for path in public.iterdir())
    os.seteuid(65534)
    try:
        assert main(recorded) == 0
    finally:
        os.seteuid(0)
    assert capsys.readouterr().out == table
    assert sorted((path.name, path.stat().st_mtime_ns) for path in public.iterdir()) == before
    (public / "lab.db").chmod(0o600)
    os.seteuid(65534)
    try:
        assert main(recorded) == 2
    finally:
        os.seteuid(0)
    said = capsys.readouterr().err
    assert f"Cannot read the MLflow store {public}/lab.db" in said
    assert "Ask its owner" in said


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
    assert "not asked" not in capsys.readouterr().err
    assert [path.name for path in public.iterdir()] == ["lab.db"]


def test_what_is_no_database_is_named(public: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (public / "lab.db").write_text("no database" * 200)
    assert main(["report", "--from", f"sqlite:///{public}/lab.db"]) == 2
    assert "is no whole database" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs a second user")
def test_a_writer_is_waited_for(
    public: Path, empty_store: EmptyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy is of one moment, and nobody waits without end."""
    monkeypatch.setattr("bob.tracking.readable._WAIT_SECONDS", 0.2)
    store = resolve_store(public, empty_store(public / "lab.db"))
    (public / "lab.db").chmod(0o644)
    writer = sqlite3.connect(public / "lab.db", isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    os.seteuid(65534)
    try:
        with pytest.raises(BobError, match="locked"), readable(store):
            pass
        writer.execute("ROLLBACK")
        with readable(store) as copy:
            assert copy.database != store.database
    finally:
        os.seteuid(0)
        writer.close()
