"""``bob datasets get`` against a server that misbehaves."""

from __future__ import annotations

import io
import resource
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bob.cli import main
from tests.file_server import FileServer, serving
from tests.test_imports import ROOT

FETCHED = (
    "cifar10", "cifar100", "flowers102", "flowers102_paper", "aircraft", "eurosat", "inat2019",
    "inat2021", "visda2017", "dtd", "pets", "food101", "sun397", "pcam",
)  # fmt: skip


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as started:
        yield started


def tar(members: dict[str, bytes], *, link: str = "") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo("birds/link")
            info.type, info.linkname = tarfile.SYMTYPE, link
            archive.addfile(info)
    return stream.getvalue()


GOOD = {"birds/a.jpg": bytes(range(256)) * 400, "birds/b.jpg": b"b" * 99}


@pytest.fixture
def own(tmp_path: Path, server: FileServer) -> Path:
    """A catalog with one dataset on the server."""
    return catalog(tmp_path, server)


def catalog(folder: Path, server: FileServer, more: str = "") -> Path:
    server.files.setdefault("/birds.tgz", tar(GOOD))
    path = folder / "own.yaml"
    path.write_text(
        "datasets:\n  own_birds:\n    loader: bob.datasets.retrieval_sets.class_folders:load\n"
        "    kind: retrieval\n    sha256: null\n    needs: [birds]\n    licence: mine\n"
        f"    download: {{files: [{{urls: ['{server.url}/birds.tgz'], gives: birds{more}}}]}}\n"
    )
    return path


def get(own: Path, *more: str) -> int:
    return main(["datasets", "--catalog", str(own), "get", "own_birds", "--yes", *more])


def holds(root: Path) -> bool:
    return all((root / name).read_bytes() == content for name, content in GOOD.items())


def test_get_and_verify(own: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert get(own) == 0
    said = capsys.readouterr().err
    assert "licence: mine" in said
    assert "no digest published" in said
    assert holds(root)
    verify = ["datasets", "--catalog", str(own), "verify", "own_birds"]
    assert main(verify) == 0
    assert "pinned now" in capsys.readouterr().out
    assert main(verify) == 0
    assert "as pinned" in capsys.readouterr().out
    (root / "birds/b.jpg").write_bytes(b"c" * 99)
    assert main(verify) == 2
    assert "has changed since it was pinned" in capsys.readouterr().err
    assert get(own) == 0
    assert "nothing is missing" in capsys.readouterr().err


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


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (tar(GOOD)[:-200], "cut off or damaged"),
        (tar({"../birds/a": b"x"}), "outside its folder"),
        (tar({"/tmp/birds": b"x"}), "outside its folder"),
        (tar(GOOD, link="/etc/passwd"), "outside its folder"),
        (tar({"fish/a.jpg": b"x"}), "laid it out anew"),
    ],
    ids=["truncated", "dots", "absolute", "link", "other"],
)
def test_archives_that_are_refused(
    own: Path, root: Path, server: FileServer, content: bytes, words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    server.files["/birds.tgz"] = content
    assert get(own) == 2
    assert words in capsys.readouterr().err
    assert not (root / "birds").exists()
    assert not (root.parent / "birds").exists()


def test_a_web_page_and_a_wrong_digest(
    tmp_path: Path, root: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    own = catalog(tmp_path, server, f", md5: '{'0' * 32}'")
    assert get(own) == 2
    assert f"should be {'0' * 32}" in capsys.readouterr().err
    server.page = True
    assert get(own) == 2
    assert "web page" in capsys.readouterr().err
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


def test_a_full_disk_keeps_what_came(
    own: Path, root: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
    try:
        assert get(own) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert "Make room" in capsys.readouterr().err
    assert get(own) == 0
    assert holds(root)


def test_a_data_root_that_cannot_be_written(
    own: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BOB_DATA", "/proc/bob")
    assert get(own) == 2
    assert "Cannot write to /proc/bob" in capsys.readouterr().err


def test_two_processes_fetch_it_once(own: Path, root: Path, server: FileServer) -> None:
    command = [sys.executable, "-m", "bob.cli", "datasets", "--catalog", str(own), "get",
               "own_birds", "--yes"]  # fmt: skip
    both = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        process.communicate(timeout=60)
    assert [process.returncode for process in both] == [0, 0]
    assert holds(root)
    assert len(server.asked) == 1


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


def test_pytest_fetches_what_its_cases_lack(own: Path, root: Path, server: FileServer) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--pyargs", "suites", "-p", "no:cacheprovider", "-q",
         "--catalog", str(own), "--dataset", "own_birds", "--backbone", "swin_micro_random",
         "-m", "retrieval", "--download", "--rootdir", str(own.parent)],
        cwd=own.parent, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert "own_birds: fetched" in done.stdout, done.stdout + done.stderr
    assert holds(root)
