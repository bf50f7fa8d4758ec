"""A data root that several users write to, each with the usual umask."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from bob.cli import main
from bob.fetching.pinning import files_list
from bob.references.writing import alone_in, replace_file
from bob.shared_folders import make_folder, shared_lock
from tests.fetching_parts import catalog, get, holds, kept, tar
from tests.file_server import FileServer, serving
from tests.two_users import needs_second_user, public, second_user

__all__ = ["public"]
pytestmark = needs_second_user


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as started:
        yield started


@pytest.fixture
def shared(public: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that everybody may write to, and the data root."""
    public.chmod(0o777)
    monkeypatch.setenv("BOB_DATA", str(public))
    umask = os.umask(0o022)
    yield public
    os.umask(umask)


def test_another_user_goes_on_with_a_download(shared: Path, server: FileServer) -> None:
    own = catalog(shared, server)
    server.cut = [300, 0, 0]
    assert get(own) == 2
    with second_user():
        assert get(own) == 0
    assert server.asked[-1][1] == "bytes=300-"
    assert holds(shared)
    assert kept(shared) == []


def test_another_user_begins_a_download_anew(shared: Path, server: FileServer) -> None:
    own = catalog(shared, server)
    server.cut = [300, 0, 0]
    assert get(own) == 2
    for left in (shared / ".bob/downloads").glob("*.part"):
        left.chmod(0o644)  # as an older version's
    (note,) = (shared / ".bob/downloads").glob("*.json")
    note.write_text("{}")
    with second_user():
        assert get(own) == 0
    assert holds(shared)


def test_another_user_cannot_write_to_what_came(shared: Path, server: FileServer) -> None:
    own = catalog(shared, server)
    server.cut = [300, 0, 0]
    assert get(own) == 2
    for left in (shared / ".bob/downloads").glob("*.part*"):
        left.chmod(0o644)  # as an older version's; the note fits what came
    with second_user():
        assert get(own) == 0
    assert server.asked[-1][1] == ""
    assert holds(shared)


def test_the_owner_opens_what_an_older_version_made(shared: Path, server: FileServer) -> None:
    own = catalog(shared, server)
    make_folder(shared / ".bob/downloads", shared)
    for folder in (shared / ".bob", shared / ".bob/downloads"):
        folder.chmod(0o755)
    server.cut = [300, 0, 0]
    assert get(own) == 2
    with second_user():
        assert get(own) == 0
    assert holds(shared)


def test_another_user_adds_to_a_folder(shared: Path, server: FileServer) -> None:
    """Of a set of two archives one is fetched by each."""
    name = "more.tgz"
    server.files["/" + name] = tar({"birds/c.jpg": b"c"})
    assert get(catalog(shared, server)) == 0
    text = (shared / "own.yaml").read_text()
    more = text.replace("birds.tgz", name).replace("needs: [birds]", "needs: [birds/c.jpg]")
    (shared / "own.yaml").write_text(more.replace("gives: birds}", "gives: birds/c.jpg}"))
    with second_user():
        assert get(shared / "own.yaml") == 0
    assert (shared / "birds/c.jpg").read_bytes() == b"c"


def test_what_is_made_is_of_the_folders_group(shared: Path, server: FileServer) -> None:
    os.chown(shared, -1, 65534)
    shared.chmod(0o775)
    server.cut = [300, 0, 0]
    assert get(catalog(shared, server)) == 2
    made = [shared / ".bob", *(shared / ".bob").rglob("*")]
    assert len(made) >= 4
    assert {path.stat().st_gid for path in made} == {65534}


def test_another_user_pins_what_was_fetched(
    shared: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    own = catalog(shared, server)
    assert get(own) == 0
    verify = ["datasets", "--catalog", str(own), "verify", "own_birds"]
    assert main(verify) == 0
    with second_user():
        assert main(verify) == 0
        (shared / ".bob/pins/own_birds.json").unlink()
        assert main(verify) == 0
    assert "pinned" in capsys.readouterr().out
    pin = shared / ".bob/pins/own_birds.json"
    for path in (pin, files_list(pin)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666


def test_what_another_user_left_half_unpacked_is_named(
    shared: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    own = catalog(shared, server)
    server.cut = [300, 0, 0]
    assert get(own) == 2
    (part,) = (shared / ".bob/downloads").glob("*.part")
    half = shared / ".bob/unpacking" / part.name.removesuffix(".part") / "content/birds"
    make_folder(half.parents[2], shared)
    half.mkdir(parents=True)
    (half / "a.jpg").write_bytes(b"half")
    with second_user():
        assert get(own) == 2
    assert f"Cannot remove {half.parents[1]}, which a process left" in capsys.readouterr().err
    assert get(own) == 0  # its owner's command goes on
    assert holds(shared)


def test_another_user_replaces_a_reference(shared: Path) -> None:
    folder = shared / "references"
    make_folder(folder, shared)
    with alone_in(folder):
        replace_file(folder / "a.json", "1")
    with second_user(), alone_in(folder):
        replace_file(folder / "a.json", "2")
    assert (folder / "a.json").read_text() == "2"


def test_a_lock_keeps_to_the_folder(shared: Path) -> None:
    for mode, expected in ((0o777, 0o666), (0o2775, 0o664), (0o755, 0o644), (0o700, 0o600)):
        folder = shared / oct(mode)
        folder.mkdir()
        folder.chmod(mode)
        with shared_lock(folder / "a.lock"):
            assert stat.S_IMODE((folder / "a.lock").stat().st_mode) == expected
