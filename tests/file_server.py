"""A server on this machine that holds files and misbehaves when told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

_BLOCK = 1 << 16


class FileServer(ThreadingHTTPServer):
    """Serves ``files`` by path.

    Attributes:
        cut: Bytes after which an answer ends, once for each number.
        ranges: Whether ``Range`` is heard.
        page: Answer with a web page, as a proxy does.
        moved: Paths that are redirected.
        headers: Sent with every file besides, such as a wrong ``Content-Encoding``.
        busy: How many of the next requests are answered 503.
        chunked: Whether the length is kept secret.
        pause: Seconds before each block of 64 KiB but the first.
        asked: ``(path, Range header)`` of every GET.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.tag = '"first"'
        self.cut: list[int] = []
        self.ranges = True
        self.page = False
        self.moved: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        self.busy = 0
        self.chunked = False
        self.pause = 0.0
        self.asked: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Range", "")))
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        server, path = self.server, unquote(self.path)
        if server.busy and body:
            server.busy -= 1
            self.send_error(503)
            return
        if server.page:
            self._send(200, b"<html>Please log in</html>", body, {"Content-Type": "text/html"})
            return
        if path in server.moved:
            self._send(302, b"", body, {"Location": server.moved[path]})
            return
        if path not in server.files:
            self.send_error(404)
            return
        content = server.files[path]
        wanted = self.headers.get("Range", "")
        same = not server.tag or self.headers.get("If-Range", server.tag) == server.tag
        headers = {"ETag": server.tag, **server.headers} if server.tag else dict(server.headers)
        if wanted and server.ranges and same:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self._send(206, content[start:], body, headers)
        else:
            self._send(200, content, body, headers)

    def _send(self, status: int, content: bytes, body: bool, headers: dict[str, str]) -> None:
        self.send_response(status)
        length = {} if self.server.chunked else {"Content-Length": str(len(content))}
        for name, value in {**length, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            most = self.server.cut.pop(0) if self.server.cut else len(content)
            with suppress(ConnectionError):  # who asked has gone
                for start in range(0, most, _BLOCK):
                    time.sleep(self.server.pause if start else 0.0)
                    self.wfile.write(content[start : min(start + _BLOCK, most)])

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[FileServer]:
    """A server that runs in a thread of its own."""
    with FileServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
