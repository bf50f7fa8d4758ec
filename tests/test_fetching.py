"""``bob datasets get`` against a server that misbehaves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bob.cli import main
from bob.fetching.pinning import files_list
from tests.fetching_parts import GOOD, catalog, get, holds, kept, tar
from tests.file_server import FileServer, serving
from tests.test_imports import ROOT


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as started:
        yield started


@pytest.fixture
def own(tmp_path: Path, server: FileServer) -> Path:
    """A catalog with one dataset on the server."""
    return catalog(tmp_path, server)


def test_get_and_verify(own: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert get(own) == 0
    said = capsys.readouterr().err
    assert "licence: mine" in said
    assert "no digest published" in said
    assert holds(root)
    assert kept(root) == []
    assert get(own) == 0
    assert "nothing is missing" in capsys.readouterr().err


def test_an_archive_of_two_datasets_is_told_and_fetched_once(
    own: Path, root: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    text = own.read_text()
    text += text.partition("\n")[2].replace("own_birds", "own_share")
    own.write_text(text.replace(server.url, "http://127.0.0.1:9"))
    ask = ["datasets", "--catalog", str(own), "get", "own_birds", "own_share"]
    assert main(ask) == 2
    said = capsys.readouterr().err
    assert "own_birds: cannot be fetched now: " in said
    assert "own_share: cannot be fetched now: " in said
    own.write_text(text)
    assert main([*ask, "--yes"]) == 0
    said = capsys.readouterr().err
    assert "own_share: comes with own_birds" in said
    assert said.count("no digest published") == 1
    assert "own_share: nothing is missing" not in said
    assert [path for path, _ in server.asked].count("/birds.tgz") <= 3
    assert holds(root)
    assert main(ask) == 0
    assert "own_share: nothing is missing" in capsys.readouterr().err


def test_verify_pins_and_sees_every_change(
    own: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert get(own) == 0
    verify = ["datasets", "--catalog", str(own), "verify", "own_birds"]
    assert main(verify) == 0
    assert "own_birds: 2 files, 100.1 KB, sha256 " in (said := capsys.readouterr().out)
    assert "pinned now" in said
    pin = root / ".bob/pins/own_birds.json"
    assert json.loads(pin.read_text())["files"] == 2
    assert main(verify) == 0
    assert "as pinned" in capsys.readouterr().out
    first, second = root / "birds/a.jpg", root / "birds/b.jpg"
    moved = root / "birds/z.jpg"
    for change, undo, told in (
        (lambda: second.write_bytes(b"c" * 99), lambda: second.write_bytes(b"b" * 99),
         "(changed: birds/b.jpg)"),
        (lambda: second.rename(root / "b.jpg"), lambda: (root / "b.jpg").rename(second),
         "(gone: birds/b.jpg)"),
        (lambda: first.with_name("c.jpg").touch(), lambda: first.with_name("c.jpg").unlink(),
         "(added: birds/c.jpg)"),
        (lambda: first.rename(moved), lambda: moved.rename(first),
         "(gone: birds/a.jpg; added: birds/z.jpg)"),
    ):  # fmt: skip
        change()
        assert main(verify) == 2
        said = capsys.readouterr().err
        assert f"has changed since it was pinned in {pin}" in said
        assert told in said
        undo()
        assert main(verify) == 0
        assert "as pinned" in capsys.readouterr().out
    first.rename(root / "a.jpg")
    second.unlink()
    assert main(verify) == 2
    assert "own_birds is not all there: birds is missing. Nothing was pinned." in (
        said := capsys.readouterr().err
    )
    assert "`bob datasets get own_birds`" in said
    (root / "a.jpg").rename(first)
    both = ["datasets", "--catalog", str(own), "verify", "cifar10", "own_birds"]
    assert main(both) == 2
    said = capsys.readouterr().err
    assert said.index("cifar10 is not all there") < said.index("(gone: birds/b.jpg)")
    assert "Remove what has changed and `bob datasets get own_birds`" in said
    files_list(pin).write_bytes(b"no list")
    second.write_bytes(b"c")
    assert main(verify) == 2
    assert "where there were 2 of 102,499. Remove what" in capsys.readouterr().err
    pin.write_text("no pin")
    assert main(verify) == 2
    assert f"Cannot read {pin}" in capsys.readouterr().err
    second.unlink()
    first.unlink()
    first.parent.rmdir()
    assert main(verify) == 2
    assert "birds is missing" in capsys.readouterr().err


def test_nobody_to_ask(own: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bob.cli", "datasets", "--catalog", own, "get", "own_birds"],
        cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Add --yes" in done.stderr
    assert not (root / "birds").exists()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_break_is_gone_on_from(own: Path, root: Path, server: FileServer, ranges: bool) -> None:
    server.cut, server.ranges = [300], ranges
    assert get(own) == 0
    assert holds(root)
    assert [span for _, span in server.asked] == ["", "bytes=300-"]


def test_breaks_that_do_not_end_keep_what_came(
    own: Path, root: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.cut = [300, 10, 10]
    assert get(own) == 2
    assert "broke off at 320" in capsys.readouterr().err
    assert get(own) == 0
    assert holds(root)
    assert server.asked[-1][1] == "bytes=320-"


def test_a_file_that_changed_since_the_break(own: Path, root: Path, server: FileServer) -> None:
    server.cut = [300, 0, 0]
    assert get(own) == 2
    server.tag, server.files["/birds.tgz"] = '"second"', tar({**GOOD, "birds/c.jpg": b"c"})
    assert get(own) == 0
    assert holds(root)
    assert (root / "birds/c.jpg").exists()


def test_redirects(own: Path, root: Path, server: FileServer) -> None:
    server.files["/there.tgz"] = server.files.pop("/birds.tgz")
    server.moved["/birds.tgz"] = f"{server.url}/there.tgz"
    assert get(own) == 0
    assert holds(root)


def test_a_web_page_and_a_wrong_digest(
    tmp_path: Path, root: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    own = catalog(tmp_path, server, f", md5: '{'0' * 32}'")
    assert get(own) == 2
    assert f"should be {'0' * 32}" in capsys.readouterr().err
    assert kept(root) == []
    server.page = True
    assert get(own) == 2
    assert "web page" in capsys.readouterr().err
    assert kept(root) == []
    assert not (root / "birds").exists()


def test_no_network(
    own: Path, server: FileServer, root: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("BOB_MIRROR", "http://127.0.0.1:9")
    assert get(own) == 2
    said = capsys.readouterr().err
    assert "Cannot reach http://127.0.0.1:9/" in said
    assert "refused" in said


def test_what_is_there_and_differs_is_kept(
    tmp_path: Path, root: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    own = catalog(tmp_path, server, "/a.jpg")
    (root / "birds").mkdir()
    (root / "birds/b.jpg").write_bytes(b"mine")
    assert get(own) == 2
    assert "differs from what birds.tgz holds" in capsys.readouterr().err
    assert (root / "birds/b.jpg").read_bytes() == b"mine"
    (root / "birds/b.jpg").unlink()
    assert get(own) == 0
    assert holds(root)


def test_a_name_that_is_not_known(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets", "get", "cifr10"]) == 2
    assert "Did you mean 'cifar10'" in capsys.readouterr().err


def test_one_that_fails_does_not_keep_the_others(
    tmp_path: Path, root: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    own = catalog(tmp_path, server)
    gone = own.read_text().replace("own_birds", "a_gone").replace("birds.tgz", "gone.tgz")
    more = tmp_path / "more.yaml"
    more.write_text(
        gone.replace("needs: [birds]", "needs: [gone]").replace("gives: birds", "gives: gone")
    )
    words = ["--catalog", str(own), "--catalog", str(more), "get", "a_gone", "own_birds", "--yes"]
    assert main(["datasets", *words]) == 2
    said = capsys.readouterr().err
    assert "a_gone was not fetched. Cannot fetch" in said
    assert "gone.tgz: the server answers 404" in said
    assert holds(root)
