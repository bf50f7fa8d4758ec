"""Mirrors that are dead, disks that are full, roots that are read-only, processes that die."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from benchmarks.faults.small_disk import NOT_MADE, fill, small_disk
from bob.cli import main
from bob.fetching.http import download
from bob.fetching.source import NotFetched, Source
from tests.fetching_parts import GOOD, catalog, get, holds, kept, tar
from tests.file_server import FileServer, serving
from tests.test_imports import ROOT

NOISE = random.Random(0).randbytes(3 << 20)
LARGE = tar({**GOOD, "birds/noise.png": NOISE})
"""Three megabytes that no packing makes smaller."""


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as started:
        yield started


@pytest.fixture
def disk(root: Path) -> Iterator[Path]:
    """A data root on a disk of eight megabytes of its own."""
    with small_disk(root, mebibytes=8) as made:
        if not made:
            pytest.skip(NOT_MADE)
        yield root


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process grows beyond a size: what a quota does, without being root."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


MD5 = hashlib.md5(tar(GOOD), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("first", ["dead", "gone", "other", "page", "breaks off"])
def test_a_second_mirror_after_a_first_that_fails(
    first: str, tmp_path: Path, root: Path, server: FileServer
) -> None:
    content = tar(GOOD)
    server.files["/birds.tgz"] = content
    more = f", sha256: {hashlib.sha256(content).hexdigest()}"
    with serving() as other:
        url = "http://127.0.0.1:9" if first == "dead" else other.url
        other.page = first == "page"
        if first != "gone":
            other.files["/birds.tgz"] = b"another file" if first == "other" else content
        other.cut = [300, 0, 0] if first == "breaks off" else []
        both = (f"{url}/birds.tgz", f"{server.url}/birds.tgz")
        assert get(catalog(tmp_path, server, more, urls=both)) == 0
        assert bool(other.asked) == (first != "dead")
    assert holds(root)
    assert kept(root) == []
    # bytes of one mirror are not put behind those of another
    assert server.asked == [("/birds.tgz", "")]


def test_every_address_that_fails_is_named(
    tmp_path: Path, root: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    urls = ("http://127.0.0.1:9/a.tgz", f"{server.url}/gone.tgz")
    assert get(catalog(tmp_path, server, urls=urls)) == 2
    said = capsys.readouterr().err
    assert "http://127.0.0.1:9/a.tgz: cannot be reached" in said
    assert "gone.tgz: the server answers 404" in said
    assert "`bob datasets get own_birds`" in said


def test_a_busy_server_is_asked_again(
    tmp_path: Path, root: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    own = catalog(tmp_path, server)
    server.busy = 3
    assert get(own) == 2
    assert "the server answers 503" in capsys.readouterr().err
    server.busy = 2
    assert get(own) == 0
    assert holds(root)


def test_a_server_that_calls_an_archive_an_encoding(
    tmp_path: Path, root: Path, server: FileServer
) -> None:
    """Apache does of ``.tgz`` by default; clients that undo it have another file than published."""
    content = tar(GOOD)
    server.files["/birds.tgz"] = content
    server.headers = {"Content-Encoding": "x-gzip", "Content-Type": "application/x-tar"}
    own = catalog(tmp_path, server, f", md5: {hashlib.md5(content).hexdigest()}")
    assert get(own) == 0
    assert holds(root)


def test_a_length_that_is_not_told(
    tmp_path: Path, root: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    own = catalog(tmp_path, server)
    server.chunked, server.cut = True, [300]
    assert get(own) == 2
    assert "cut off or damaged" in capsys.readouterr().err
    assert kept(root) == []
    assert get(own) == 0
    assert holds(root)


def test_a_size_that_is_not_the_published_one(
    tmp_path: Path, root: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    own = catalog(tmp_path, server, ", bytes: 5")
    for server.chunked in (False, True):
        assert get(own) == 2
        assert "where 5 are published" in capsys.readouterr().err
        assert kept(root) == []


def test_without_a_version_only_a_digest_lets_a_download_go_on(
    tmp_path: Path, root: Path, server: FileServer
) -> None:
    """A server that names no version may have another file by now."""
    content = tar(GOOD)
    server.tag, server.files["/birds.tgz"] = "", content
    own = catalog(tmp_path, server)
    server.cut = [300, 300, 300]
    assert get(own) == 2
    assert kept(root) == []
    own = catalog(tmp_path, server, f", sha256: {hashlib.sha256(content).hexdigest()}")
    server.cut = [300, 10, 10]
    assert get(own) == 2
    assert kept(root) == ["birds.tgz.part", "birds.tgz.part.json"]
    server.asked.clear()
    assert get(own) == 0
    assert server.asked == [("/birds.tgz", "bytes=320-")]
    assert holds(root)


def test_a_beginning_that_does_not_fit_the_rest_is_fetched_anew(
    tmp_path: Path, root: Path, server: FileServer
) -> None:
    content = tar(GOOD)
    server.files["/birds.tgz"], server.cut = content, [300, 0, 0]
    own = catalog(tmp_path, server, f", sha256: {hashlib.sha256(content).hexdigest()}")
    assert get(own) == 2
    (part,) = (root / ".bob/downloads").glob("*.part")
    part.write_bytes(bytes(300))  # a disk that lies
    server.asked.clear()
    assert get(own) == 0
    assert holds(root)
    assert [span for _, span in server.asked] == ["bytes=300-", ""]


def test_a_web_page_in_the_middle_keeps_what_came(
    tmp_path: Path, root: Path, server: FileServer
) -> None:
    own = catalog(tmp_path, server)
    server.cut = [300, 10, 10]
    assert get(own) == 2
    server.page = True
    assert get(own) == 2
    assert kept(root) == ["birds.tgz.part", "birds.tgz.part.json"]
    server.page = False
    server.asked.clear()
    assert get(own) == 0
    assert server.asked == [("/birds.tgz", "bytes=320-")]


def test_a_server_that_stalls_is_given_up(tmp_path: Path, server: FileServer) -> None:
    server.files["/large"], server.pause = LARGE, 30.0
    started = time.monotonic()
    with pytest.raises(NotFetched, match="broke off"):
        download(Source((f"{server.url}/large",)), tmp_path / "large", timeout=(1.0, 0.2))
    assert time.monotonic() - started < 25  # one pause takes 30
    assert (tmp_path / "large.part").stat().st_size == 3 << 16  # each try got one block further


def test_a_disk_that_fills_up_in_mid_download(
    tmp_path: Path, disk: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    own = catalog(tmp_path, server, ", sha256: " + hashlib.sha256(LARGE).hexdigest())
    server.files["/birds.tgz"], server.chunked = LARGE, True  # nobody can know beforehand
    fill(disk / "ballast", leave=1 << 20)
    assert get(own) == 2
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert "bytes of it are kept, the same command goes on from there" in said
    (disk / "ballast").unlink()
    server.asked.clear()
    assert get(own) == 0
    assert holds(disk)
    ((_, span),) = server.asked
    assert int(span.removeprefix("bytes=").rstrip("-")) > 500_000


def test_a_disk_that_is_known_to_be_too_small(
    tmp_path: Path, disk: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    own = catalog(tmp_path, server)
    server.files["/birds.tgz"] = LARGE
    fill(disk / "ballast", leave=1 << 20)
    assert get(own) == 2
    assert "3.0 MB are to be fetched and the disk of" in capsys.readouterr().err
    assert server.asked == []


def test_a_disk_that_fills_up_while_unpacking(
    tmp_path: Path, disk: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    own = catalog(tmp_path, server)
    server.files["/birds.tgz"] = LARGE
    fill(disk / "ballast", leave=4 << 20)
    assert get(own) == 2
    assert "disk has" in (said := capsys.readouterr().err), said
    assert "it was kept" in said
    assert kept(disk) == ["birds.tgz"]
    assert not (disk / "birds").exists()
    (disk / "ballast").unlink()
    server.asked.clear()
    assert get(own) == 0
    assert server.asked == []
    assert (disk / "birds/noise.png").read_bytes() == NOISE
    assert kept(disk) == []


@pytest.mark.parametrize(
    ("most", "words", "left"),
    [
        (1 << 20, "1,048,576 bytes of it are kept", ["birds.tgz.part", "birds.tgz.part.json"]),
        (len(LARGE) - 100, "it was kept", ["birds.tgz"]),
    ],
    ids=["download", "unpacking"],
)
def test_a_quota(
    most: int, words: str, left: list[str], tmp_path: Path, root: Path, server: FileServer,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    own = catalog(tmp_path, server)
    large = LARGE if len(left) == 2 else tar({**GOOD, "birds/zeros.png": bytes(4 << 20)})
    server.files["/birds.tgz"] = large
    with largest_file(most):
        assert get(own) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "File too large" in said
    assert kept(root) == left
    assert get(own) == 0
    assert holds(root)


def test_a_data_root_that_is_no_folder_of_ours(
    tmp_path: Path, server: FileServer, root: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("BOB_DATA", "/proc/bob")
    assert get(catalog(tmp_path, server)) == 2
    assert "Cannot write to /proc/bob" in capsys.readouterr().err


def test_a_data_root_that_is_read_only(
    tmp_path: Path, disk: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    def now(how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)

    own = catalog(tmp_path, server)
    now("ro")
    try:
        assert get(own) == 2
        said = capsys.readouterr().err
        assert f"Cannot write to {disk}/.bob (Read-only file system)" in said
        assert "BOB_DATA" in said
        now("rw")
        assert get(own) == 0
        now("ro")
        # what is there needs no writing; what is written down does
        assert get(own) == 0
        assert "nothing is missing" in capsys.readouterr().err
        assert main(["datasets", "--catalog", str(own), "verify", "own_birds"]) == 2
        assert "Cannot write" in capsys.readouterr().err
    finally:
        now("rw")


def command(own: Path) -> subprocess.Popen[bytes]:
    words = ["datasets", "--catalog", str(own), "get", "own_birds", "--yes"]
    return subprocess.Popen(
        [sys.executable, "-m", "bob.cli", *words], cwd=ROOT, stderr=subprocess.PIPE,
        # jobs that a shell runs in the background inherit that SIGINT is ignored
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def await_part(root: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until a process is in the middle of a download."""
    deadline = time.monotonic() + 30
    while not any(
        path.stat().st_size > 1 << 18 for path in (root / ".bob/downloads").glob("*.part")
    ):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)


def test_two_processes_fetch_it_once(tmp_path: Path, root: Path, server: FileServer) -> None:
    own = catalog(tmp_path, server)
    server.files["/birds.tgz"], server.pause = LARGE, 0.05
    both = [command(own) for _ in range(2)]
    said = b"".join(process.communicate(timeout=60)[1] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert holds(root)
    assert len(server.asked) == 1
    assert said.count(b"another process is fetching") == 1
    assert said.count(b"is there by now") == 1


def test_who_waits_goes_on_where_a_killed_one_was(
    tmp_path: Path, root: Path, server: FileServer
) -> None:
    own = catalog(tmp_path, server)
    server.files["/birds.tgz"], server.pause = LARGE, 0.5
    first = command(own)
    await_part(root, first)
    second = command(own)
    time.sleep(0.3)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    server.pause = 0.0
    second.communicate(timeout=60)
    assert second.returncode == 0
    assert holds(root)
    assert [bool(span) for _, span in server.asked] == [False, True]


def test_what_a_killed_process_left_half_unpacked_goes(
    tmp_path: Path, root: Path, server: FileServer
) -> None:
    own = catalog(tmp_path, server)
    server.cut = [300, 0, 0]
    assert get(own) == 2
    (part,) = (root / ".bob/downloads").glob("*.part")
    half = root / ".bob/unpacking" / part.name.removesuffix(".part") / "content/birds"
    half.mkdir(parents=True)
    (half / "a.jpg").write_bytes(b"half")
    (half / "stray.jpg").write_bytes(b"of another version")
    assert get(own) == 0
    assert holds(root)
    assert not (root / "birds/stray.jpg").exists()
    assert kept(root) == []


def test_ctrl_c_keeps_what_came(tmp_path: Path, root: Path, server: FileServer) -> None:
    own = catalog(tmp_path, server)
    server.files["/birds.tgz"], server.pause = LARGE, 0.5  # half a minute in all
    process = command(own)
    await_part(root, process)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[1].decode()
    assert process.returncode == 130
    assert said.endswith("bob: stopped. What came is kept; the same command goes on from there.\n")
    assert kept(root) == ["birds.tgz.part", "birds.tgz.part.json"]
