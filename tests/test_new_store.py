"""A first SQLite store: whole or not there, whoever is ended meanwhile, and named where broken."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bob.cli import main
from bob.errors import BobError
from bob.ledger import Ledger
from bob.tracking import Tracker, check_reachable, resolve_store
from bob.tracking.client import alone, in_turn
from bob.tracking.locks import check_lock, held
from tests.store_parts import EmptyStore, hearing

MAKER = """
import os, signal, sys
from pathlib import Path
from alembic.operations import Operations
from bob import interrupts
from bob.tracking import Tracker, resolve_store
from mlflow.store.tracking import sqlalchemy_store  # imported before the clock starts

interrupts.install()
root, how, left = Path(sys.argv[1]), int(sys.argv[2]), [int(sys.argv[3])]
real = Operations.add_column

def add_column(self, *args, **kwargs):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), how)
    return real(self, *args, **kwargs)

Operations.add_column = add_column
Tracker(resolve_store(root, None), "tiny", root).start_session({})
print("made")
"""


def make(root: Path, how: int, moment: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MAKER, str(root), str(int(how)), str(moment)],
        capture_output=True, text=True, timeout=120, preexec_fn=hearing,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_who_is_ended_while_a_store_is_made_leaves_none(how: int, tmp_path: Path) -> None:
    ended = make(tmp_path, how, 4)
    assert ended.returncode != 0
    assert "made" not in ended.stdout
    folder = tmp_path / "mlruns"
    assert not (folder / "mlflow.db").exists()
    left = [path.name for path in folder.iterdir() if path.name.startswith(".mlflow.db.making-")]
    assert len(left) == (how == signal.SIGKILL)
    following = make(tmp_path, how, 0)
    assert "made" in following.stdout, following.stderr
    assert {path.name for path in folder.iterdir()} == {"mlflow.db", "mlflow.db.lock"}


def test_a_file_that_was_left_empty_is_no_store(
    tmp_path: Path, shared_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bob.tracking.opening import make_missing

    database = tmp_path / "mlflow.db"
    template = Path(shared_store.removeprefix("sqlite:///")).with_name("empty.db")
    made: list[str] = []

    def create(uri: str) -> None:
        made.append(uri)
        shutil.copy(template, uri.removeprefix("sqlite:///"))

    database.touch()
    make_missing(database, create)
    make_missing(database, create)
    assert len(made) == 1
    Tracker(resolve_store(tmp_path, f"sqlite:///{database}"), "tiny", tmp_path).start_session({})


def torn(database: Path) -> None:
    """What MLflow leaves that was ended between two steps: some tables, and an older version."""
    with closing(sqlite3.connect(database)) as file, file:
        file.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
        file.execute("DROP TABLE webhooks")


@pytest.mark.parametrize("damage", ["torn", "overwritten"])
def test_a_broken_store_is_named_with_its_remedy(
    damage: str,
    tmp_path: Path,
    empty_store: EmptyStore,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    database = tmp_path / "mlruns" / "mlflow.db"
    database.parent.mkdir()
    empty_store(database)
    if damage == "torn":
        torn(database)
    else:
        database.write_bytes(b"no database at all" * 100)
    ledger = tmp_path / "mlruns" / "ledger"
    with pytest.raises(BobError) as caught:
        Tracker(resolve_store(tmp_path, None), "tiny", tmp_path).start_session({})
    message = str(caught.value)
    assert f"mv {database} {database}.broken" in message
    assert f"they stand in {ledger}" in message
    assert "`bob sync` fills it" in message
    assert "Nothing was run" in message
    (ledger / "s").mkdir(parents=True)
    (ledger / "s" / "session.json").write_text('{"facts": {"bob.scale": "tiny"}, "time": "2026"}')
    monkeypatch.chdir(tmp_path)
    assert main(["sync"]) != 0
    assert f"mv {database} {database}.broken" in capsys.readouterr().err


@pytest.mark.parametrize("linked", [False, True], ids=["itself", "behind a link"])
@pytest.mark.parametrize("make_it", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_is_not_replaced_by_a_store(
    project: pytest.Pytester, make_it: Callable[[Path], None], linked: bool
) -> None:
    """As root, a store at /dev/null would take its place for the whole machine."""
    place = project.path / "odd"
    make_it(place)
    before = place.stat().st_mode
    named = project.path / "named"
    if linked:
        named.symlink_to(place)
    result = project.runpytest(
        "-k", "pixels_coarse", f"--tracking-uri=sqlite:///{named if linked else place}"
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: The MLflow store *d cannot be used: it is no file.*"])
    assert place.stat().st_mode == before


def test_a_store_behind_a_link_to_nothing_yet_is_made_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "named.db").symlink_to("real.db")
    Tracker(
        resolve_store(tmp_path, f"sqlite:///{tmp_path / 'named.db'}"), "tiny", tmp_path
    ).start_session({})
    assert (tmp_path / "named.db").is_symlink()
    assert (tmp_path / "real.db").stat().st_size


def odd_lock(path: Path, kind: str) -> str:
    """Put what is no lock in its place; the words for it."""
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
        return "Is a directory"
    path.symlink_to(path.parent / "nowhere" / "x")
    return "it is a link"


@pytest.mark.parametrize("kind", ["folder", "link"])
@pytest.mark.parametrize("name", ["lock", "turn"])
def test_a_lock_that_cannot_be_used_is_named(
    kind: str, name: str, tmp_path: Path, empty_store: EmptyStore,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    uri = empty_store(tmp_path / "m.db")
    Ledger(tmp_path / "mlruns" / "ledger").open_session("s1", {"bob.scale": "tiny"})
    lock = tmp_path / f"m.db.{name}"
    why = odd_lock(lock, kind)
    told = f"The lock {lock} of the MLflow store cannot be used ({why}). It holds no result: remove"
    for command in (["sync"], ["profile", "--from", "mlflow"], ["report", "--from", "mlflow"]):
        assert main([*command, "--tracking-uri", uri]) == 2
        error = capsys.readouterr().err
        if name == "turn" and command != ["sync"]:  # whoever reads takes no turn
            assert error.startswith("bob: There is no score")
            continue
        assert error.startswith(f"bob: {told}")
        assert error.count("\n") == 1
    main(["doctor", "--tracking-uri", uri])
    assert told in " ".join(capsys.readouterr().out.split())
    store = resolve_store(tmp_path, uri)
    with (
        pytest.raises(BobError, match="of the MLflow store cannot be used"),
        alone(store),
        in_turn(store),
    ):
        pass


def test_a_session_whose_store_cannot_be_locked_runs_nothing(
    project: pytest.Pytester, own_store: tuple[str, str]
) -> None:
    odd_lock(project.path / "mlflow.db.lock", "folder")
    done = project.runpytest("-k", "coarse", *own_store)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(
        ["ERROR: The lock *mlflow.db.lock * (Is a directory)*Nothing was run*"]
    )
    done.stderr.no_fnmatch_line("*INTERNALERROR*")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs a second user")
def test_two_users_of_a_folder_share_its_lock(empty_store: EmptyStore) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        store = resolve_store(folder, empty_store(folder / "m.db"))
        (folder / "m.db").chmod(0o666)
        with alone(store):
            pass
        lock = folder / "m.db.lock"
        os.seteuid(65534)
        try:
            with alone(store):
                check_reachable(store)  # held, which is no fault of it
        finally:
            os.seteuid(0)
        lock.unlink()
        lock.touch(0o644)  # as another program's, or an older version's
        os.seteuid(65534)
        try:
            with pytest.raises(BobError, match=r"m\.db\.lock of .* \(Permission denied\).*owner"):
                check_reachable(store)
            with pytest.raises(BobError, match="Permission denied"), alone(store):
                pass
        finally:
            os.seteuid(0)


def test_a_lock_that_another_process_keeps_is_named(tmp_path: Path) -> None:
    with held(tmp_path / "a.lock", seconds=1):
        check_lock(tmp_path / "a.lock")
        with (
            pytest.raises(BobError, match=r"Another process has held .*a\.lock for 0 s"),
            held(tmp_path / "a.lock", seconds=0),
        ):
            pass
