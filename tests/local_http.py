"""Real HTTP servers on loopback, told by a table what to answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Seen:
    """One request that a server received."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass
class LocalServer:
    """A running server.

    Attributes:
        base: Its base URL.
        routes: Path without query -> what to do; a missing path is a 404.
        seen: Every request so far.
        stopping: Set when the test is over; slow answers wait for it.
    """

    base: str = ""
    routes: dict[str, Answer] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def port(self) -> int:
        return int(self.base.rsplit(":", 1)[1])


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what some tests are about."""


@contextmanager
def serve() -> Iterator[LocalServer]:
    local = LocalServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            local.seen.append(
                Seen(
                    self.command,
                    self.path,
                    {name.lower(): value for name, value in self.headers.items()},
                    self.rfile.read(length),
                    self.client_address[1],
                )
            )
            local.routes.get(self.path.partition("?")[0], status(404))(self)

        do_POST = do_GET  # noqa: N815 - the library's name

        def do_HEAD(self) -> None:
            self.send_response(200 if self.path.partition("?")[0] in local.routes else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with _Server(("127.0.0.1", 0), Handler) as server:
        local.base = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield local
        finally:
            local.stopping.set()
            server.shutdown()
            thread.join()


def content(data: bytes, content_type: str = "image/png", **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", content_type)
        handler.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def status(code: int, body: bytes = b"") -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def redirect(target: str, code: int = 303) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("Location", target)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def in_turn(*answers: Answer) -> Answer:
    """The first answer to the first request, and so on; the last one for ever."""
    left = list(answers)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(handler)

    return answer


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without a word."""
    handler.close_connection = True


def never(local: LocalServer) -> Answer:
    """Keep silent until the test is over."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        local.stopping.wait(20)
        handler.close_connection = True

    return answer


def dripping(local: LocalServer, answer_bytes: bytes, *, first_bytes: int, pause_s: float = 0.02) -> Answer:
    """A whole HTTP answer, whose bytes come one by one after the first few."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(answer_bytes[:first_bytes])
        for index in range(first_bytes, len(answer_bytes)):
            handler.wfile.write(answer_bytes[index : index + 1])
            if local.stopping.wait(pause_s):
                break
        handler.close_connection = True

    return answer
