"""Releases are fetched once, whole and as published."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch

from bob.backbones import build_backbone
from bob.backbones.released import weights_file
from bob.catalog import BackboneEntry, Weights
from bob.catalog.release_cache import cache_path
from bob.errors import BobError
from bob.hashing import digest_of_file
from tests.file_server import FileServer, serving
from tests.test_fetching_faults import largest_file


class Server(HTTPServer):
    """Serves one file, and counts."""

    content = b""
    claimed = 0
    asked = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.send_error(405)

    def do_GET(self) -> None:
        self.server.asked += 1
        if "gone" in self.path:
            return self.send_error(404)
        self.send_response(200)
        length = self.server.claimed or len(self.server.content)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(self.server.content)
        return None

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with Server(("127.0.0.1", 0), Handler) as started:
        thread = threading.Thread(target=started.serve_forever, daemon=True)
        thread.start()
        yield started
        started.shutdown()
        thread.join()


def released_entry(url: str, sha256: str | None = None) -> BackboneEntry:
    return BackboneEntry(
        key="mine",
        family="resnet",
        source="bob.backbones.micro:resnet_micro",
        weights=Weights(url=url, sha256=sha256),
    )


def test_a_release_is_fetched_once(server: Server, tmp_path: Path) -> None:
    from bob.backbones.micro import resnet_micro

    state = resnet_micro().state_dict()
    torch.save(state, tmp_path / "local.pth")
    server.content = (tmp_path / "local.pth").read_bytes()
    url = f"http://127.0.0.1:{server.server_port}/vicreg/resnet50.pth"
    digest = digest_of_file(tmp_path / "local.pth")
    for _ in range(2):
        backbone = build_backbone(released_entry(url), image_size=32)
        assert torch.equal(backbone.module.conv1.weight, state["conv1.weight"])
        assert backbone.weights_digest == digest
    assert server.asked == 1
    assert weights_file(released_entry(url, digest)) == cache_path(url)
    assert cache_path(url).parts[-2:] == ("vicreg", "resnet50.pth")
    namesake = f"http://127.0.0.1:{server.server_port}/barlow/resnet50.pth"
    assert cache_path(namesake) != cache_path(url)


def unavailable(entry: BackboneEntry) -> str:
    with pytest.raises(BobError) as caught:
        build_backbone(entry, image_size=32)
    assert caught.value.kind == "unavailable"
    return str(caught.value)


def test_a_release_that_is_gone_says_what_to_put_where(server: Server) -> None:
    url = f"http://127.0.0.1:{server.server_port}/gone/resnet50.pth"
    message = unavailable(released_entry(url))
    assert url in message
    assert str(cache_path(url)) in message
    assert "--backbone mine,checkpoint=FILE" in message


def test_a_cache_that_cannot_be_written_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "torch").write_text("a file where the cache should be")
    message = unavailable(released_entry(f"http://127.0.0.1:{server.server_port}/w.pth"))
    assert "NotADirectoryError" in message


def test_half_a_download_is_not_kept(server: Server) -> None:
    server.content, server.claimed = b"half", 8
    url = f"http://127.0.0.1:{server.server_port}/w.pth"
    assert "4 of 8 bytes" in unavailable(released_entry(url))
    assert [path.name for path in cache_path(url).parent.iterdir()] == ["w.pth.lock"]


def test_another_file_than_released_is_refused(server: Server) -> None:
    server.content = b"something else"
    url = f"http://127.0.0.1:{server.server_port}/w.pth"
    with pytest.raises(BobError, match=r"came with SHA-256 .* the catalog says 000000000000"):
        build_backbone(released_entry(url, "0" * 64), image_size=32)
    assert not cache_path(url).exists()


def test_no_network_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    started = time.monotonic()
    for name in ("a.pth", "b.pth"):
        assert "Connection refused" in unavailable(released_entry(f"http://127.0.0.1:9/{name}"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    hub = BackboneEntry(key="hub", family="resnet", source="timm:resnet18.a1_in1k")
    assert "hf download timm/resnet18.a1_in1k" in unavailable(hub)
    assert "--backbone hub,checkpoint=FILE" in unavailable(hub)
    assert time.monotonic() - started < 10


def test_a_weight_lies_in_one_place() -> None:
    for fields in ({}, {"file": "a.pth", "url": "https://b/c.pth"}):
        with pytest.raises(ValueError, match="give one of file, url and package"):
            Weights.model_validate(fields)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server that misbehaves as told."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with serving() as started:
        started.files["/w.pth"] = bytes(range(256)) * 40
        yield started


def test_a_break_is_gone_on_from(files: FileServer) -> None:
    url = f"{files.url}/w.pth"
    files.cut = [300]
    assert weights_file(released_entry(url)).read_bytes() == files.files["/w.pth"]
    assert files.asked == [("/w.pth", ""), ("/w.pth", "bytes=300-")]


def test_a_later_session_goes_on_too(files: FileServer) -> None:
    url = f"{files.url}/w.pth"
    files.cut = [300, 20, 20]
    assert "broke off at 340 of 10,240 bytes" in unavailable(released_entry(url))
    assert cache_path(url).with_name("w.pth.part").stat().st_size == 340
    files.asked.clear()
    assert weights_file(released_entry(url)).read_bytes() == files.files["/w.pth"]
    assert files.asked == [("/w.pth", "bytes=340-")]
    assert {path.name for path in cache_path(url).parent.iterdir()} == {"w.pth", "w.pth.lock"}


def test_a_proxys_page_is_no_checkpoint(files: FileServer) -> None:
    url = f"{files.url}/w.pth"
    files.page = True
    message = unavailable(released_entry(url))
    assert f"{url} cannot be downloaded (the answer is a web page, not the file" in message
    assert str(cache_path(url)) in message
    assert [path.name for path in cache_path(url).parent.iterdir()] == ["w.pth.lock"]


def test_another_file_than_released_is_thrown_away(files: FileServer) -> None:
    url = f"{files.url}/w.pth"
    digest = hashlib.sha256(files.files["/w.pth"]).hexdigest()
    with pytest.raises(BobError, match="The release has changed") as caught:
        weights_file(released_entry(url, "0" * 64))
    assert caught.value.kind == "weights"
    assert digest[:12] in str(caught.value)
    assert [path.name for path in cache_path(url).parent.iterdir()] == ["w.pth.lock"]


def test_a_cache_that_is_full_keeps_what_came(files: FileServer) -> None:
    url = f"{files.url}/w.pth"
    with largest_file(5000):
        assert "File too large" in unavailable(released_entry(url))
    assert weights_file(released_entry(url)).read_bytes() == files.files["/w.pth"]
    assert files.asked[-1] == ("/w.pth", "bytes=5000-")
