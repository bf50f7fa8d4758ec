"""A proxy before a real server that hangs, loses replies or lies at chosen requests."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Rule = Callable[[str, str], str]
"""From method and path of a request to what becomes of it: a name of ``Proxy``'s ways."""


def passing(method: str, path: str) -> str:
    """Every request reaches the server and is answered."""
    return "pass"


def always(way: str, *, of: str = "") -> Rule:
    """The same for every request whose path holds some text."""
    return lambda method, path: way if of in path else "pass"


def first_times(way: str, times: int, *, of: str = "") -> Rule:
    """The same for the first requests of each path that holds some text."""
    seen: dict[str, int] = {}

    def rule(method: str, path: str) -> str:
        if of not in path:
            return "pass"
        key = f"{method} {path.split('?')[0]}"
        seen[key] = seen.get(key, 0) + 1
        return way if seen[key] <= times else "pass"

    return rule


class Proxy:
    """Passes requests on, as its rule says.

    The ways: ``pass``; ``hang`` (accepts, never answers); ``refuse`` (closes at once); ``lose``
    (the server does it, the reply is lost); ``late`` (closes, and the server does it a second
    later); ``trickle`` (a byte of headers now and then, for ever); ``html`` (a page with status
    200); ``half`` (closes in the middle of a body); ``503``, ``500``; ``hour`` and ``429`` (503 and
    429, with an hour's ``Retry-After``).

    Where ``wanted`` is set, requests without this ``Authorization`` header are refused with 401.

    Args:
        port: Of the server behind.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.rule: Rule = passing
        self.asked: list[str] = []
        self.wanted = ""
        self._stopped = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Close, and let go of everything that hangs."""
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        return type("Handler", (_Handler,), {"proxy": self})


class _Handler(BaseHTTPRequestHandler):
    """Answers a request in the way that its proxy's rule says."""

    proxy: Proxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every reply waits 40 ms for an acknowledgement

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        way = self.proxy.rule(self.command, self.path)
        if self.proxy.wanted and self.headers.get("Authorization") != self.proxy.wanted:
            way = "401"
        self.proxy.asked.append(f"{way} {self.command} {self.path}")
        self.close_connection = way != "pass"
        match way:
            case "pass":
                self.reply(*self.forward(body))
            case "lose":
                self.forward(body)
            case "late":
                threading.Timer(1.0, self.forward, [body]).start()
            case "hang":
                self.proxy._stopped.wait(60)
            case "trickle":
                self.trickle()
            case "html":
                page = b"<html><body>Sign in to the network</body></html>"
                self.reply(200, {"Content-Type": "text/html"}, page)
            case "401":
                self.reply(401, {"WWW-Authenticate": "Basic"}, b"who are you?")
            case "half":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b'{"run": {"info": {"run_id": "')
            case "hour" | "429":
                status = 503 if way == "hour" else 429
                self.reply(status, {"Retry-After": "3600"}, b"later")
            case "503" | "500":
                self.reply(int(way), {}, b"no")

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        behind = http.client.HTTPConnection("127.0.0.1", self.proxy.port, timeout=60)
        given = {
            name: text
            for name, text in self.headers.items()
            if name.lower() not in ("host", "connection", "accept-encoding")
        }
        behind.request(self.command, self.path, body, given)
        reply = behind.getresponse()
        content = reply.read()
        behind.close()
        kind = reply.headers.get("Content-Type", "application/json")
        return reply.status, {"Content-Type": kind}, content

    def reply(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def trickle(self) -> None:
        ends = time.monotonic() + 60
        try:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Wait: ")
            while time.monotonic() < ends and not self.proxy._stopped.wait(0.3):
                self.wfile.write(b".")
                self.wfile.flush()
        except OSError:
            pass
